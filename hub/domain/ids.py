"""Identifiers: UUIDv7 inside, a prefix and 32 hexadecimal digits outside, so that text order is order of age."""

import os
import re
import struct
import time
from collections.abc import Iterator
from typing import Final
from uuid import UUID

from hub.domain.errors import NotFound

_DIGITS: Final = re.compile("[0-9a-f]{32}")
_SHOWN: Final = 60
_VERSION_7: Final = 0x7 << 76
_VARIANT: Final = 0b10 << 62
_LOW: Final = (1 << 62) - 1


_last = 0
_entropy: Iterator[tuple[int, int]] = iter(())


def _refill() -> None:
    """Draw randomness for the next 256 ids: the system call costs more than all the rest of an id."""
    global _entropy  # noqa: PLW0603  one per process, on purpose
    _entropy = struct.iter_unpack(">HQ", os.urandom(2560))


def _drain() -> None:
    global _entropy  # noqa: PLW0603
    _entropy = iter(())


os.register_at_fork(after_in_child=_drain)  # or both would make the same ids


def _next() -> int:
    """The number of the next UUIDv7 (RFC 9562): 48 bits of milliseconds, the rest random; greater than every one made
    here before.
    """
    global _last  # noqa: PLW0603  one per process, on purpose
    drawn = next(_entropy, None)
    while drawn is None:
        _refill()
        drawn = next(_entropy, None)
    middle, low = drawn
    made = (time.time_ns() // 1_000_000) << 80 | _VERSION_7 | (middle & 0xFFF) << 64 | _VARIANT | low & _LOW
    _last = made if made > _last else _last + 1  # of one millisecond, or after the clock went back
    return _last


def new_id() -> UUID:
    """A new UUIDv7."""
    return UUID(int=_next())


def new_hex() -> str:
    """A new UUIDv7 as its 32 hexadecimal digits: for what is only written down, a third of the time."""
    return f"{_next():032x}"


def public_id(prefix: str, value: UUID) -> str:
    """How an id is written outside: `msg_0197...`."""
    return f"{prefix}_{value.hex}"


def parse_id(prefix: str, text: str) -> UUID:
    """Read an id back. Raises `NotFound` for anything that is no id of this kind: it names nothing we have."""
    head, _, digits = text.partition("_")
    if head != prefix or not _DIGITS.fullmatch(digits):
        raise NotFound(
            f"There is no {text[:_SHOWN]!r}: an id here is '{prefix}_' and 32 digits, as the API gave it out."
        )
    return UUID(hex=digits)


def event_id(number: int) -> str:
    """How an event's place in the log is written outside: `evt_` and 16 hexadecimal digits."""
    return f"evt_{number:016x}"


def shard_of(value: UUID) -> int:
    """The shard (0 to 63) of the event log that a conversation's, or else a channel's, events go to."""
    return value.int & 63
