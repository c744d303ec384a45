"""Every error Trunkline raises on purpose, with its reason code, its gRPC status and whether a retry may help.

`docs/errors.md` is generated from this module. A message says what was seen, on which object and host, and
`remedy` says what to do next. Pure: standard library only.
"""

from __future__ import annotations

import enum

DOMAIN = "trunkline"


class Status(enum.IntEnum):
    """gRPC status codes, numbered as in the gRPC specification, so that pure code needs no grpc."""

    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Reason(enum.Enum):
    """Reason codes: stable names for scripts. The value is (status, retryable, meaning)."""

    # What was asked for is malformed.
    INVALID_NAME = (Status.INVALID_ARGUMENT, False, "A name does not follow the rules of names.")
    INVALID_ARGUMENT = (Status.INVALID_ARGUMENT, False, "A field is missing or malformed.")
    INVALID_PREFIX = (Status.INVALID_ARGUMENT, False, "A prefix is malformed or has host bits set.")
    INVALID_GATEWAY = (Status.INVALID_ARGUMENT, False, "A gateway is not a usable address of its prefix.")
    INVALID_RANGE = (Status.INVALID_ARGUMENT, False, "A range or exclude is malformed or outside its prefix.")
    INVALID_VLAN = (Status.INVALID_ARGUMENT, False, "A VLAN id is not 0 to 4094.")
    INVALID_MAC = (Status.INVALID_ARGUMENT, False, "A MAC is malformed or not a unicast address.")
    INVALID_MTU = (Status.INVALID_ARGUMENT, False, "An MTU is out of range for the families in use.")
    MODE_REFUSED = (Status.INVALID_ARGUMENT, False, "Macvlan mode passthru leaves no interface to probe from.")
    IMMUTABLE = (Status.INVALID_ARGUMENT, False, "The field cannot be changed on an existing object.")
    PROTOCOL_VERSION = (Status.FAILED_PRECONDITION, False, "Client and server speak different protocols.")
    CONFIG_INVALID = (Status.INVALID_ARGUMENT, False, "A configuration file has an unknown key or a bad value.")
    # What was named does not exist, or exists already.
    NETWORK_NOT_FOUND = (Status.NOT_FOUND, False, "No network of that name.")
    NETWORK_EXISTS = (Status.ALREADY_EXISTS, False, "A network of that name exists with another spec.")
    NETWORK_DELETING = (Status.FAILED_PRECONDITION, True, "The network is being removed from the hosts.")
    NETWORK_IN_USE = (Status.FAILED_PRECONDITION, False, "Attachments of the network are live.")
    HOST_NOT_FOUND = (Status.NOT_FOUND, False, "No host of that name has registered.")
    HOST_NOT_SELECTED = (Status.FAILED_PRECONDITION, False, "The network's host selector leaves the host out.")
    HOST_DRAINED = (Status.FAILED_PRECONDITION, False, "The host takes no new attachments.")
    HOST_CONNECTED = (Status.FAILED_PRECONDITION, False, "The host has a live session.")
    HOST_FORGETTING = (Status.FAILED_PRECONDITION, True, "The host is being forgotten.")
    HOST_UNREACHABLE = (Status.UNAVAILABLE, True, "The host has no live session.")
    HOST_MACHINE_MISMATCH = (Status.FAILED_PRECONDITION, False, "Another machine registered under this host name.")
    HOST_IDENTITY = (Status.PERMISSION_DENIED, False, "The certificate names another host.")
    IDENTITY_MISSING = (Status.UNAUTHENTICATED, False, "The caller's certificate names no identity.")
    NOT_PERMITTED = (Status.PERMISSION_DENIED, False, "The caller's identity may not do this.")
    SESSION_SUPERSEDED = (Status.ABORTED, False, "A newer session of the same host took over.")
    EPOCH_MISMATCH = (Status.FAILED_PRECONDITION, True, "The state shown is of another history of the store.")
    ATTACHMENT_NOT_FOUND = (Status.NOT_FOUND, False, "No attachment of that name.")
    ATTACHMENT_EXISTS = (Status.ALREADY_EXISTS, False, "An attachment of that name exists with another spec.")
    NOT_DETACHABLE = (Status.FAILED_PRECONDITION, False, "Docker, or the network's host access, made the attachment.")
    ATTACHMENT_DETACHING = (Status.FAILED_PRECONDITION, True, "The attachment is being removed.")
    # Uplinks and VLANs.
    UPLINK_NOT_SET = (Status.FAILED_PRECONDITION, False, "The uplink has no VLAN range to choose from.")
    UPLINK_NOT_ON_HOST = (Status.FAILED_PRECONDITION, False, "The host's agent maps no device to the uplink label.")
    UPLINK_IN_USE = (Status.FAILED_PRECONDITION, False, "A network uses a VLAN id that would fall outside.")
    UPLINK_MISSING = (Status.FAILED_PRECONDITION, True, "The uplink's device does not exist on the host.")
    UPLINK_DOWN = (Status.FAILED_PRECONDITION, True, "The uplink's device is down or cannot be set up.")
    UPLINK_SHARED = (Status.FAILED_PRECONDITION, False, "Two uplink labels reach one device.")
    UPLINK_ENSLAVED = (
        Status.FAILED_PRECONDITION,
        False,
        "The uplink's device is a port of a bridge or bond, which would lose the frames of the VLAN.",
    )
    UPLINK_MTU = (Status.FAILED_PRECONDITION, False, "The network's MTU is above the uplink's.")
    VLAN_TAKEN = (Status.ALREADY_EXISTS, False, "The VLAN id is in use by another network on the uplink.")
    VLAN_EXHAUSTED = (Status.RESOURCE_EXHAUSTED, False, "No free VLAN id is left in the uplink's range.")
    NUMBERS_EXHAUSTED = (Status.RESOURCE_EXHAUSTED, False, "No network or host number is left.")
    PREFIX_OVERLAP = (Status.ALREADY_EXISTS, False, "The prefix overlaps that of another network.")
    # Addresses and MACs.
    POOL_EXHAUSTED = (Status.RESOURCE_EXHAUSTED, False, "No address of the pool can be handed out.")
    ADDRESS_OUTSIDE = (Status.INVALID_ARGUMENT, False, "The address is not a host address of the network.")
    ADDRESS_TAKEN = (Status.ALREADY_EXISTS, False, "The address is held.")
    ADDRESS_RESTING = (Status.FAILED_PRECONDITION, True, "The address rests after use by another owner.")
    ADDRESS_RESERVED = (Status.FAILED_PRECONDITION, False, "The address is excluded, reserved, or the gateway.")
    ADDRESS_CONFLICT = (Status.FAILED_PRECONDITION, True, "Somebody else answers for the address on the wire.")
    PROMISE_EXISTS = (Status.ALREADY_EXISTS, False, "The owner is promised another address of the network already.")
    OWNER_ELSEWHERE = (
        Status.FAILED_PRECONDITION,
        False,
        "An address of this cluster-wide owner is in use on another host.",
    )
    ADDRESS_DUPLICATE = (Status.FAILED_PRECONDITION, False, "Two users of one address were seen.")
    MAC_DUPLICATE = (Status.FAILED_PRECONDITION, False, "Two interfaces with one MAC were seen.")
    MAC_TAKEN = (Status.ALREADY_EXISTS, False, "The MAC is claimed by another attachment.")
    # Targets on a host.
    CONTAINER_NOT_FOUND = (Status.NOT_FOUND, False, "The host has no such container.")
    CONTAINER_NOT_RUNNING = (Status.FAILED_PRECONDITION, True, "The container does not run.")
    CONTAINER_HOST_NETWORK = (Status.FAILED_PRECONDITION, False, "The container uses the host's network.")
    NETNS_NOT_FOUND = (Status.NOT_FOUND, True, "The network namespace or process does not exist.")
    NETNS_IS_HOST = (Status.FAILED_PRECONDITION, False, "The namespace is the host's own.")
    DOCKER_UNAVAILABLE = (Status.UNAVAILABLE, True, "The Docker Engine of the host does not answer.")
    DOCKER_NETWORK_FOREIGN = (
        Status.FAILED_PRECONDITION,
        False,
        "A Docker network of that name was made by somebody else; it is left as it is.",
    )
    DOCKER_NETWORK_FAILED = (Status.FAILED_PRECONDITION, True, "The Docker network cannot be made or removed.")
    DOCKER_NETWORK_LOST = (
        Status.FAILED_PRECONDITION,
        False,
        "A container runs without a network it was set up with (Docker 29 drops it after a failed start).",
    )
    CONTAINER_NOT_STARTED = (
        Status.FAILED_PRECONDITION,
        True,
        "A container with a restart policy could not start because an address was refused.",
    )
    IMPORT_REFUSED = (Status.FAILED_PRECONDITION, False, "The Docker networks cannot be taken over as they are.")
    IFNAME_TAKEN = (Status.ALREADY_EXISTS, False, "The target has an interface of that name.")
    # Kernel.
    SUBINTERFACE_IN_USE = (
        Status.FAILED_PRECONDITION,
        False,
        "The host, or somebody's link, uses a sub-interface that Trunkline made; it is left as it is.",
    )
    LINK_CLASH = (Status.FAILED_PRECONDITION, False, "Somebody else's link has the name that is needed.")
    KERNEL_UNSUPPORTED = (Status.FAILED_PRECONDITION, False, "The kernel lacks 8021q or macvlan.")
    KERNEL_REFUSED = (Status.INTERNAL, True, "The kernel refused a change.")
    VERIFY_FAILED = (Status.INTERNAL, True, "What was read back is not what was applied.")
    PROBE_FAILED = (Status.UNAVAILABLE, True, "A probe could not be sent or judged.")
    # Store and service.
    STORE_UNAVAILABLE = (Status.UNAVAILABLE, True, "The store does not answer.")
    STORE_CONTENTION = (Status.ABORTED, True, "Others changed the same objects each time it was tried.")
    STORE_NOSPACE = (Status.RESOURCE_EXHAUSTED, False, "The store is over its quota.")
    STORE_REFUSED = (Status.FAILED_PRECONDITION, False, "The store refuses the controller's request or identity.")
    STORE_FENCED = (Status.FAILED_PRECONDITION, False, "A newer controller process of the same name has the store.")
    STORE_BEHIND = (Status.FAILED_PRECONDITION, False, "A host has seen a later state than the store holds.")
    STORE_CORRUPT = (Status.DATA_LOSS, False, "A value in the store cannot be read.")
    SPOOL_CORRUPT = (Status.DATA_LOSS, False, "The agent's spool cannot be read.")
    REVISION_OLD = (Status.ABORTED, True, "A desired state older than the one in force was ignored.")
    EPOCH_CHANGED = (
        Status.FAILED_PRECONDITION,
        False,
        "The fabric's history was renewed; removals wait for an operator.",
    )
    CONTROLLER_UNREACHABLE = (Status.UNAVAILABLE, True, "No controller answered.")
    NAMES_UNREACHED = (Status.FAILED_PRECONDITION, False, "The host's resolver does not lead to the fabric's names.")
    LISTEN_FAILED = (Status.UNAVAILABLE, False, "The address to listen on cannot be had.")
    DEADLINE = (Status.DEADLINE_EXCEEDED, True, "It did not happen in the time given.")
    INTERNAL = (Status.INTERNAL, False, "A bug in Trunkline.")

    @property
    def status(self) -> Status:
        """gRPC status that carries this reason."""
        return self.value[0]

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later with nothing changed by the caller."""
        return self.value[1]

    @property
    def meaning(self) -> str:
        """One sentence for the documentation."""
        return self.value[2]


class TrunklineError(Exception):
    """An error with a reason code, a message for people and a remedy.

    `message` says what was seen, on which object and host; `remedy` what to do next (may be empty);
    `facts` are short strings for scripts, such as {"network": "mynet2"}.
    """

    def __init__(self, reason: Reason, message: str, remedy: str = "", **facts: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.remedy = remedy
        self.facts = facts

    @property
    def retryable(self) -> bool:
        """Retry policy is a property of the error, never of the caller."""
        return self.reason.retryable

    @property
    def text(self) -> str:
        """Message and remedy as one line."""
        return f"{self.message}; {self.remedy}" if self.remedy else self.message

    def __str__(self) -> str:
        return f"{self.reason.name}: {self.text}"


class Refusal(TrunklineError):
    """A request that the laws or the current state forbid; raised by planners and validators."""


class StoreUnavailable(TrunklineError):
    """The store did not answer; what was asked for may have been written, or be written yet, all of it or nothing."""

    def __init__(self, message: str, remedy: str = "") -> None:
        remedy = remedy or "check `trunkline status` and the etcd members, then ask again: asking twice does no harm"
        super().__init__(Reason.STORE_UNAVAILABLE, message, remedy)
