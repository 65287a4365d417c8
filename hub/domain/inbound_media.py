"""Files in what customers send: what is shown of them, and what is needed to fetch them."""

import base64
import binascii
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from hub.domain.backoff import HOUR, MINUTE
from hub.domain.ids import public_id
from hub.domain.media_links import PREFIX
from hub.domain.mime_types import UNKNOWN, bare_mime_type, safe_name, well_formed

_HEX: Final = re.compile("[0-9a-f]{64}")
_HASH_SIZE: Final = 32
_SOURCE: Final = frozenset({"id", "url"})
"""Where the provider keeps a file is nobody's affair but the hub's: its address may carry a key."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file in a message: `provider_id` and `url` tell where to fetch it, `sha256` what its bytes must hash to."""

    id: UUID
    provider_id: str | None
    url: str | None
    mime_type: str
    filename: str
    sha256: bytes | None


def name_files(key: str, content: Mapping[str, Any], at: datetime) -> tuple[dict[str, Any], Sequence[FoundFile]]:
    """The content of a provider's item (`key`), its files named by ids of ours, and the files. The same item at the
    same time always gives the same ids.
    """
    entries = [entry for entry in content.get("media") or () if isinstance(entry, Mapping)]
    found = [_found(key, place, entry, at) for place, entry in enumerate(entries)]
    shown = [_shown(entry, file) for entry, file in zip(entries, found, strict=True)]
    return {**content, "media": shown}, found


def _found(key: str, place: int, entry: Mapping[str, Any], at: datetime) -> FoundFile:
    return FoundFile(
        _id(key, place, at),
        _text(entry.get("id")),
        _text(entry.get("url")),
        well_formed(bare_mime_type(_text(entry.get("mime_type")) or "")) or UNKNOWN,
        safe_name(_text(entry.get("filename")) or ""),
        read_sha256(entry.get("sha256")),
    )


def _shown(entry: Mapping[str, Any], file: FoundFile) -> dict[str, Any]:
    view = {"id": public_id(PREFIX, file.id)} | {name: entry[name] for name in entry if name not in _SOURCE}
    if "sha256" in view:  # as of uploads, in hexadecimal
        del view["sha256"]
        view |= {"sha256": file.sha256.hex()} if file.sha256 else {}
    return view


def _id(key: str, place: int, at: datetime) -> UUID:
    """A UUIDv7 (RFC 9562) in which the rest is no chance but the item's hash."""
    drawn = hashlib.blake2b(f"{place} {key}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
    moment = min(max(int(at.timestamp() * 1000), 0), 2**48 - 1)
    low = int.from_bytes(drawn) & (2**80 - 1)
    return UUID(int=(moment << 80 | low) & ~(0xF << 76) & ~(0b11 << 62) | 0x7 << 76 | 0b10 << 62)


def read_sha256(text: Any) -> bytes | None:
    """A hash as Meta writes it (Base64) or in hexadecimal; None for what is none."""
    if not isinstance(text, str):
        return None
    if _HEX.fullmatch(text.lower()):
        return bytes.fromhex(text)
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return value if len(value) == _HASH_SIZE else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


# Fetching -------------------------------------------------------------------------------------------------------------

FETCH_SCHEDULE: Final = (
    2.0, 15.0, MINUTE, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 6 * HOUR, 12 * HOUR, 24 * HOUR, 24 * HOUR,
)  # fmt: skip
"""Seconds to wait after the first, second, ... attempt that failed: about three days."""
_MOST_PATIENCE: Final = 60


def retry_after(error: str | None, next_at: datetime | None, now: datetime) -> int:
    """Seconds after which whoever asks for a pending file may ask again; after the first failure that takes longer."""
    if error is None or next_at is None:
        return 1
    return min(max(math.ceil((next_at - now).total_seconds()), 1), _MOST_PATIENCE)
