"""A contact's timeline: several conversations read as one, from a place in each of them (rule C3)."""

import base64
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import merge
from itertools import islice
from typing import Any, Final, TypeVar
from uuid import UUID

from hub.domain.errors import Invalid

_VERSION: Final = b"\x01"
_ENTRY: Final = 24
_CHECK: Final = 4
_WORD: Final = re.compile(r"[A-Za-z0-9_-]{1,20000}")
_MOST: Final = 2**63 - 1

T = TypeVar("T")


def encode(places: Mapping[UUID, int]) -> str:
    """A sequence number in each conversation as one opaque word. It is checked so that a cut or mistyped word is told;
    it gives no right to anything, nor is it secret.
    """
    content = _VERSION + b"".join(key.bytes + place.to_bytes(8, "big") for key, place in sorted(places.items()))
    return base64.urlsafe_b64encode(content + zlib.crc32(content).to_bytes(_CHECK, "big")).rstrip(b"=").decode()


def decode(text: str) -> dict[UUID, int]:
    """Read a word of `encode` back. Raises `Invalid` (`invalid_cursor`) for every other word."""
    content = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) if _fits(text) else b""
    entries = content[1:-_CHECK]
    if len(entries) % _ENTRY == 0:
        cuts = (entries[at : at + _ENTRY] for at in range(0, len(entries), _ENTRY))
        places = {UUID(bytes=cut[:16]): min(int.from_bytes(cut[16:], "big"), _MOST) for cut in cuts}
        if encode(places) == text:
            return places
    raise Invalid("this is no cursor that the hub has given out for a contact's timeline", code="invalid_cursor")


def _fits(text: str) -> bool:
    return _WORD.fullmatch(text) is not None and len(text) % 4 != 1


def merged(lists: Iterable[Sequence[T]], key: Callable[[T], Any], limit: int, *, is_forward: bool) -> list[T]:
    """The first `limit` of several lists by `key`, oldest first where `is_forward`, else newest first. The order within
    each list is kept, even where the key says otherwise: places count by it.
    """
    return list(islice(merge(*lists, key=key, reverse=not is_forward), limit))
