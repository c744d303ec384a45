"""The kernel's filter on every packet socket of the probes (classic BPF, Linux Documentation/networking/filter.rst).

Passes untagged L2 echoes, ARP, and ICMPv6 neighbour solicitations and advertisements, and nothing this host sent.
Tags matter on VLAN 0: a packet socket on an uplink is shown the frames of every VLAN, with the tag beside the frame
instead of in it, so an answer from VLAN 10 would count for the untagged network.
"""

from __future__ import annotations

import struct
from typing import Final

_LOAD_WORD: Final = 0x20
_LOAD_HALF: Final = 0x28
_LOAD_BYTE: Final = 0x30
_AND: Final = 0x54
_IF_EQUAL: Final = 0x15
_RETURN: Final = 0x06

# Ancillary data of the frame (linux/filter.h: SKF_AD_OFF and what is counted from it).
_PACKET_TYPE: Final = 0xFFFFF000 + 4
_TAG: Final = 0xFFFFF000 + 44
_TAG_PRESENT: Final = 0xFFFFF000 + 48
_OUTGOING: Final = 4

_NEXT: Final = ""
_Step = tuple[int, int, str, str, str]

# Of each step: code, operand, where to if equal, where to if not, its own label.
_STEPS: Final[tuple[_Step, ...]] = (
    (_LOAD_WORD, _PACKET_TYPE, _NEXT, _NEXT, ""),
    (_IF_EQUAL, _OUTGOING, "drop", _NEXT, ""),
    (_LOAD_WORD, _TAG_PRESENT, _NEXT, _NEXT, ""),
    (_IF_EQUAL, 0, "untagged", _NEXT, ""),
    (_LOAD_WORD, _TAG, _NEXT, _NEXT, ""),
    (_AND, 0x0FFF, _NEXT, _NEXT, ""),
    # Id 0 is a priority tag: the frame belongs to no VLAN (IEEE 802.1Q, 9.6).
    (_IF_EQUAL, 0, _NEXT, "drop", ""),
    (_LOAD_HALF, 12, _NEXT, _NEXT, "untagged"),
    (_IF_EQUAL, 0x88B5, "pass", _NEXT, ""),
    (_IF_EQUAL, 0x0806, "pass", _NEXT, ""),
    (_IF_EQUAL, 0x86DD, _NEXT, "drop", ""),
    (_LOAD_BYTE, 20, _NEXT, _NEXT, ""),
    (_IF_EQUAL, 58, _NEXT, "drop", ""),
    (_LOAD_BYTE, 54, _NEXT, _NEXT, ""),
    (_IF_EQUAL, 135, "pass", _NEXT, ""),
    (_IF_EQUAL, 136, "pass", "drop", ""),
    (_RETURN, 0, _NEXT, _NEXT, "drop"),
    (_RETURN, 0x40000, _NEXT, _NEXT, "pass"),
)


def program() -> tuple[bytes, int]:
    """The filter as an array of struct sock_filter, and its number of instructions."""
    places = {step[4]: place for place, step in enumerate(_STEPS) if step[4]}
    code = bytearray()
    for place, (operation, operand, equal, other, _) in enumerate(_STEPS):
        hops = (places[label] - place - 1 if label else 0 for label in (equal, other))
        code += struct.pack("@HBBI", operation, *hops, operand)
    return bytes(code), len(_STEPS)
