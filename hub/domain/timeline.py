"""A contact's timeline: several conversations, and what it did on the web, read as one, from a place in each (C3)."""

import base64
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from heapq import merge
from itertools import islice
from typing import Any, Final, TypeVar
from uuid import UUID

from hub.domain.errors import Invalid

VISITS: Final = UUID(int=2**128 - 1)
"""What stands for a contact's visits among its conversations."""
CLICKS: Final = UUID(int=2**128 - 2)
"""The same for its clicks."""

THE_END: Final = 2**191
"""The place behind all that anybody ever does on the web."""

_PLAIN: Final = b"\x01"
_WITH_WEB: Final = b"\x02"
_ENTRY: Final = 24
_CHECK: Final = 4
_WORD: Final = re.compile(r"[A-Za-z0-9_-]{1,20000}")
_MOST: Final = 2**62
_MOST_ON_WEB: Final = 2 ** (8 * _ENTRY) - 2
_WEB: Final = (VISITS, CLICKS)
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_LAST: Final = datetime.max.replace(tzinfo=UTC)

T = TypeVar("T")


def mark(at: datetime, name: UUID) -> int:
    """The place of something that is known by its time and id, as sequence numbers are places of messages."""
    return (at - _EPOCH) // timedelta(microseconds=1) << 128 | name.int


def unmark(place: int) -> tuple[datetime, UUID]:
    """The time and id that a place on the web stands for."""
    micros = place >> 128
    is_beyond = micros > (_LAST - _EPOCH) // timedelta(microseconds=1)
    return _LAST if is_beyond else _EPOCH + timedelta(microseconds=micros), UUID(int=place & (2**128 - 1))


def encode(places: Mapping[UUID, int]) -> str:
    """A sequence number in each conversation, and the places among visits and clicks where these were looked at, as one
    opaque word. It is checked so that a cut or mistyped word is told; it gives no right to anything, nor is it secret.
    """
    talks = {key: place for key, place in places.items() if key not in _WEB}
    version = _PLAIN
    if len(talks) != len(places):
        version = _WITH_WEB + b"".join(places.get(lane, 0).to_bytes(_ENTRY, "big") for lane in _WEB)
    content = version + b"".join(
        key.bytes + place.to_bytes(8, "big", signed=True) for key, place in sorted(talks.items())
    )
    return base64.urlsafe_b64encode(content + zlib.crc32(content).to_bytes(_CHECK, "big")).rstrip(b"=").decode()


def decode(text: str) -> dict[UUID, int]:
    """Read a word of `encode` back. Raises `Invalid` (`invalid_cursor`) for every other word."""
    content = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) if _fits(text) else b""
    entries = content[1:-_CHECK]
    if len(entries) % _ENTRY == 0:
        cuts = [entries[at : at + _ENTRY] for at in range(0, len(entries), _ENTRY)]
        web = len(_WEB) if content[:1] == _WITH_WEB else 0
        places = {
            lane: min(int.from_bytes(cut, "big"), _MOST_ON_WEB) for lane, cut in zip(_WEB, cuts[:web], strict=False)
        }
        places |= {UUID(bytes=cut[:16]): _bounded(int.from_bytes(cut[16:], "big", signed=True)) for cut in cuts[web:]}
        if encode(places) == text:
            return places
    raise Invalid("this is no cursor that the hub has given out for a contact's timeline", code="invalid_cursor")


def _bounded(sequence: int) -> int:
    return max(-_MOST, min(sequence, _MOST))


def _fits(text: str) -> bool:
    return _WORD.fullmatch(text) is not None and len(text) % 4 != 1


def merged(lists: Iterable[Sequence[T]], key: Callable[[T], Any], limit: int, *, is_forward: bool) -> list[T]:
    """The first `limit` of several lists by `key`, oldest first where `is_forward`, else newest first. The order within
    each list is kept, even where the key says otherwise: places count by it.
    """
    return list(islice(merge(*lists, key=key, reverse=not is_forward), limit))
