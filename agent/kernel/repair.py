"""An existing interface of ours brought to its spec."""

from __future__ import annotations

import errno
from ipaddress import ip_interface

from agent.kernel import addresses, defaults, messages, naming, reading, sysctl, uapi
from agent.kernel.channel import Channel
from agent.kernel.codec import attribute, string, u32
from agent.kernel.errors import Failure, Step, interface_gone, mtu_above_parent, refused
from agent.kernel.messages import Request
from agent.kernel.namespaces import Entrance
from agent.plan.state import Interface, Link, MacvlanSpec
from trunkline.errors import Reason, TrunklineError


class Repair:
    """One interface. Parent and mode are its identity: where they differ, it is deleted and made anew by the plan."""

    def __init__(self, home: Channel, host: int, target: Channel, entrance: Entrance, index: int, spec: MacvlanSpec):
        self._home = home
        self._host = host
        self._target = target
        self._entrance = entrance
        self._index = index
        self._spec = spec
        self._what = f"{spec.name or spec.temporary_name} in {entrance.namespace.path}"

    def run(self) -> Interface:
        """See `Links.configure`. Each step is right by itself; what failed is tried again from what is seen then."""
        before = self._seen()
        link = before.link
        self._check_ours(link)
        self._rename(link)
        self._set_link(link)
        with self._entrance.entered():
            sysctl.settle(self._seen().link.name, self._spec)
        # A link that goes down loses its IPv6 addresses, so they are read again.
        self._set_addresses(self._seen())
        self._change(Step.UP, messages.raise_link(self._index))
        self._set_routes(self._seen())
        return self._seen()

    def _seen(self) -> Interface:
        try:
            found = reading.interfaces(self._target, self._host)
        except Failure as failure:
            raise refused(failure, Step.READ, self._what) from failure
        for interface in found:
            if interface.link.index == self._index:
                return interface
        raise interface_gone(self._what)

    def _check_ours(self, link: Link) -> None:
        spec = self._spec
        unmarked = link.alias == "" and link.name == spec.temporary_name
        if link.kind != "macvlan" or not (link.alias == spec.alias or unmarked):
            raise TrunklineError(
                Reason.LINK_CLASH,
                f"link {link.index} ({link.name}) in {self._entrance.namespace.path} is a {link.kind or 'physical'} "
                f"link with alias {link.alias!r} instead of {spec.alias!r}; it was left alone",
                "somebody changed the mark, or the link is somebody else's; look again",
            )

    def _change(self, step: Step, request: Request) -> None:
        try:
            self._target.ask(request)
        except Failure as failure:
            raise refused(failure, step, self._what) from failure

    def _rename(self, link: Link) -> None:
        name = self._spec.name or (link.name if link.name != self._spec.temporary_name else self._free_name())
        if name == link.name and link.alias == self._spec.alias:
            return
        if name != link.name and link.up:  # kernels before 6.2 rename only what is down
            self._change(Step.NAME, messages.lower_link(link.index))
        alias = string(uapi.IFLA_IFALIAS, self._spec.alias)
        self._change(Step.NAME, messages.change_link(link.index, string(uapi.IFLA_IFNAME, name), alias))

    def _free_name(self) -> str:
        return next(naming.free_names(set(reading.indexes(self._target))))

    def _set_link(self, link: Link) -> None:
        mac, mtu = self._spec.mac, self._spec.mtu
        if mac and mac != link.mac:
            self._change(
                Step.MAC, messages.change_link(link.index, attribute(uapi.IFLA_ADDRESS, messages.mac_bytes(mac)))
            )
        if mtu and mtu != link.mtu:
            failure = self._target.transact([messages.change_link(link.index, u32(uapi.IFLA_MTU, mtu))])[0]
            if failure is not None:
                raise self._why_no_mtu(failure)

    def _why_no_mtu(self, failure: Failure) -> TrunklineError:
        parent = reading.link(self._home, self._spec.parent_index)
        if parent is not None and self._spec.mtu > parent.mtu:
            return mtu_above_parent(self._what, self._spec.mtu, parent.name, parent.mtu)
        return refused(failure, Step.MTU, self._what)

    def _set_addresses(self, seen: Interface) -> None:
        for address in sorted(self._unwanted(seen)):
            failure = self._target.transact([messages.remove_address(self._index, address)])[0]
            # IPv4's other addresses of a prefix go with its first one (promote_secondaries off): gone is gone.
            if failure is not None and failure.code != errno.EADDRNOTAVAIL:
                raise refused(failure, Step.ADDRESS, f"{address} (remove) of {self._what}")
        present = {str(ip_interface(address)) for address in self._seen().addresses}
        for address in self._spec.addresses:
            if str(ip_interface(address)) not in present:
                failure = self._target.transact([messages.add_address(self._index, address)])[0]
                if failure is not None:
                    raise addresses.why_refused(self._target, self._index, address, self._what, failure)

    def _unwanted(self, seen: Interface) -> set[str]:
        wanted = {str(ip_interface(address)) for address in self._spec.addresses}
        return {str(ip_interface(address)) for address in seen.addresses} - wanted

    def _set_routes(self, seen: Interface) -> None:
        try:
            for route in reading.routes(self._target):
                ours = route.index == self._index and route.gateway and route.protocol == uapi.RTPROT_STATIC
                if ours and route.gateway not in self._spec.gateways:
                    defaults.remove(self._target, self._index, route.metric, route.gateway)
            missing = [gateway for gateway in self._spec.gateways if gateway not in seen.gateways]
            displaced = defaults.Displaced()
            try:
                defaults.put(self._target, self._index, missing, displaced)
            except Failure:
                displaced.restore(self._target)
                raise
        except Failure as failure:
            raise refused(failure, Step.ROUTE, f"of {self._what} to {', '.join(self._spec.gateways)}") from failure
