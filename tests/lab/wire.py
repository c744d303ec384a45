"""Puts faults on the wire: all that hold at once are one nftables table, replaced whole."""

import json
import typing
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from lab.errors import LabError
from lab.faults import KINDS, Fault, Matches
from lab.plan import SwitchKind
from lab.switch import Switch

RunInSwitchGuest = Callable[[str], object]


def table(drops: Matches, ports: dict[str, str]) -> str:
    """One transaction: whoever looks sees the old table or the new one."""
    cross = [f"iifname {ports[net]}{a} oifname {ports[net]}{b}" for net, a, b in drops.cross]
    lines = ["table bridge lab {}", "delete table bridge lab", "table bridge lab {"]
    chains = (("enter", "prerouting", drops.enter), ("across", "forward", cross), ("leave", "postrouting", drops.leave))
    for chain, hook, matches in chains:
        lines.append(f"  chain {chain} {{ type filter hook {hook} priority -200; policy accept;")
        lines += [f"    {match} counter drop" for match in matches] + ["  }"]
    return "\n".join([*lines, "}", ""])


def parse(words: Sequence[str]) -> Fault:
    """A fault as typed on a command line: its name, the host, then its fields in order."""
    kind = KINDS.get(words[0]) if words else None
    if kind is None:
        raise LabError(f"no such fault: {' '.join(words[:1])} (there are: {', '.join(KINDS)})")
    hints = typing.get_type_hints(kind)
    values: list[int | str | tuple[int, ...]] = []
    names = [f.name for f in fields(kind)]
    if len(words) - 1 > len(names):
        raise LabError(f"{words[0]} takes {' '.join(names)}")
    try:
        for name, word in zip(names, words[1:], strict=False):
            if hints[name] is int:
                values.append(int(word))
            elif typing.get_origin(hints[name]) is tuple:
                values.append(tuple(int(v) for v in word.split(",")))
            else:
                choices = typing.get_args(hints[name])
                if choices and word not in choices:
                    raise ValueError(f"{word!r} is none of {', '.join(choices)}")
                values.append(word)
        return typing.cast(Callable[..., Fault], kind)(*values)
    except (ValueError, TypeError) as e:
        raise LabError(f"{words[0]} takes {' '.join(names)}: {e}") from e


class Wire:
    def __init__(self, switch: Switch, kind: SwitchKind, memory: Path, in_switch_guest: RunInSwitchGuest) -> None:
        self.switch = switch
        self.kind = kind
        self.memory = memory
        self.in_switch_guest = in_switch_guest

    @property
    def faults(self) -> list[Fault]:
        if not self.memory.exists():
            return []
        loaded: list[Fault] = []
        for raw in json.loads(self.memory.read_text()):
            made = {k: tuple(v) if isinstance(v, list) else v for k, v in raw["fields"].items()}
            loaded.append(typing.cast(Callable[..., Fault], KINDS[raw["kind"]])(**made))
        return loaded

    def apply(self, faults: Sequence[Fault]) -> None:
        drops, inner = Matches(), Matches()
        for fault in faults:
            some = fault.matches()
            drops.enter += some.enter
            drops.leave += some.leave
            for crossing in some.cross:
                # With a switch guest the trunks meet in there, not on this machine.
                (inner if self.kind == "vlan" and crossing[0] == "trunk" else drops).cross.append(crossing)
        self.switch.run(["nft", "-f", "-"], table(drops, {"trunk": "t", "mgmt": "m"}))
        if self.kind == "vlan":
            self.in_switch_guest(f"nft -f - <<'RULES'\n{table(inner, {'trunk': 'p', 'mgmt': 'm'})}RULES\n")
        draft = self.memory.with_name(self.memory.name + "~")
        draft.write_text(json.dumps([{"kind": f.name, "fields": asdict(f)} for f in faults]))
        draft.rename(self.memory)
