"""Identifiers: UUIDv7 inside, a prefix and 32 hexadecimal digits outside, so that text order is order of age."""

import os
import re
import time
from typing import Final
from uuid import UUID

from hub.domain.errors import NotFound

_DIGITS: Final = re.compile("[0-9a-f]{32}")
_VERSION_7: Final = 0x7 << 76
_VARIANT: Final = 0b10 << 62


_last = 0


def new_id() -> UUID:
    """A new UUIDv7 (RFC 9562): 48 bits of milliseconds, the rest random; greater than every one made here before."""
    global _last  # noqa: PLW0603  one per process, on purpose
    value = int.from_bytes(os.urandom(10), "big")
    low = value & 0x3FFF_FFFF_FFFF_FFFF
    middle = (value >> 62) & 0xFFF
    made = (time.time_ns() // 1_000_000) << 80 | _VERSION_7 | middle << 64 | _VARIANT | low
    _last = made if made > _last else _last + 1  # of one millisecond, or after the clock went back
    return UUID(int=_last)


def public_id(prefix: str, value: UUID) -> str:
    """How an id is written outside: `msg_0197...`."""
    return f"{prefix}_{value.hex}"


def parse_id(prefix: str, text: str) -> UUID:
    """Read an id back. Raises `NotFound` for anything that is no id of this kind: it names nothing we have."""
    head, _, digits = text.partition("_")
    if head != prefix or not _DIGITS.fullmatch(digits):
        raise NotFound(f"there is no {text!r}")
    return UUID(hex=digits)


def event_id(number: int) -> str:
    """How an event's place in the log is written outside: `evt_` and 16 hexadecimal digits."""
    return f"evt_{number:016x}"


def shard_of(value: UUID) -> int:
    """The shard (0 to 63) of the event log that a conversation's, or else a channel's, events go to."""
    return value.int & 63
