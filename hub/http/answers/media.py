"""Files, as answers show them (rule E10)."""

from typing import Any

from hub.http.answers.base import MAYBE, MediaId, Strict, Time


class Uploaded(Strict):
    """A file that can be sent, as often as one likes."""

    id: MediaId
    mime_type: str
    filename: str | None
    size: int
    sha256: str = MAYBE
    created_at: Time = MAYBE
    expires_at: Time | None = MAYBE


class KnownFile(Strict):
    """What is known of a file; `url` is signed for the reader alone, and expires."""

    id: MediaId
    state: str
    mime_type: str | None
    filename: str | None
    size: int | None
    sha256: str | None
    error: Any
    created_at: Time
    url: str
