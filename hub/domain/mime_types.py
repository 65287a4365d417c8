"""Media types and names of files, as strangers tell them."""

import re
from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import Final

UNKNOWN: Final = "application/octet-stream"
_MAX_NAME: Final = 240
_TYPE: Final = re.compile(r"[a-z0-9!#$&^_.+-]{1,100}/[a-z0-9!#$&^_.+-]{1,100}", re.ASCII)
"""RFC 6838, 4.2."""
_UNSAFE: Final = re.compile(r'[\x00-\x1f\x7f-\x9f/\\"\u200e\u200f\u202a-\u202e\u2066-\u2069]')
"""Also what turns the direction of writing, and so hides a name's ending."""


def bare_mime_type(text: str) -> str:
    """A media type in lower case and without its parameters."""
    return text.partition(";")[0].strip().lower()


def well_formed(mime_type: str) -> str:
    """A bare media type that may stand in a header, else nothing."""
    return mime_type if _TYPE.fullmatch(mime_type) else ""


def safe_name(name: str) -> str:
    """A file name without path and without what does not belong into a header or a store."""
    bare = name.replace("\\", "/").rpartition("/")[2].encode("utf-8", "ignore").decode()
    return _UNSAFE.sub("", bare).strip()[-_MAX_NAME:]


def is_refused(mime_type: str, refused: Collection[str]) -> bool:
    """Whether files of this type are not taken; `refused` may hold `*`, as in `application/x-*`."""
    return any(fnmatchcase(bare_mime_type(mime_type), pattern) for pattern in refused)
