"""Where a reader stands in the event log: a position in each of the 64 shards, outside one opaque word (rule G4).

The word is base64url of: the version, the time the reader asked to begin at (microseconds after 1970 and one more, 0
for none), the highest position, how far below it each shard is, and a CRC-32 of all that. Numbers are in 7-bit groups,
the lowest first. It is checked so that a cut or mistyped word is told; it gives no right to anything, nor is it secret.
"""

import base64
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from hub.domain.errors import Invalid

SHARDS: Final = 64
_VERSION: Final = 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_CHECK: Final = 4
_WORD: Final = re.compile(r"[A-Za-z0-9_-]{1,1000}")
_MOST: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Positions:
    """Everything at or below `at[shard]` is read, or was never asked for.

    `since` is set where the reader asked for what happened from a time on: nothing older is shown then, and neither is
    anything left out because it happened before the reader connected.
    """

    at: tuple[int, ...]
    since: datetime | None = None

    @property
    def highest(self) -> int:
        """The highest position. The log is read in the order of ids over all shards, so whatever was in the log at or
        below it has been read, also in shards that stand lower.
        """
        return max(self.at)

    def encode(self) -> str:
        """The word for it."""
        since = 0 if self.since is None else (self.since - _EPOCH) // _MICROSECOND + 1
        numbers = (since, self.highest, *(self.highest - position for position in self.at))
        content = bytes((_VERSION,)) + b"".join(map(_written, numbers))
        check = zlib.crc32(content).to_bytes(_CHECK, "big")
        return base64.urlsafe_b64encode(content + check).rstrip(b"=").decode()


def decode(text: str) -> Positions:
    """Read a word of `encode` back. Raises `Invalid` (`invalid_cursor`) for every other word."""
    try:
        found = _decode(text)
    except (ValueError, StopIteration, OverflowError):
        found = None
    if found is None or found.encode() != text:
        raise Invalid("this is no cursor that the hub has given out", code="invalid_cursor")
    return found


def _decode(text: str) -> Positions | None:
    if not _WORD.fullmatch(text):
        return None
    content = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    numbers = _read(iter(content[1:-_CHECK]))
    since, highest = next(numbers), next(numbers)
    at = tuple(highest - below for below in numbers)
    if len(at) != SHARDS or min(at) < 0 or highest > _MOST:
        return None
    return Positions(at, _EPOCH + (since - 1) * _MICROSECOND if since else None)


def _written(number: int) -> bytes:
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def _read(groups: Iterator[int]) -> Iterator[int]:
    number = shift = 0
    for group in groups:
        number |= (group & 0x7F) << shift
        shift += 7
        if not group & 0x80:
            yield number
            number = shift = 0
