"""Fetching customers' files from a provider: which addresses may be asked, and what a failure means.

Credentials and requests must reach nobody but the provider, whatever address a webhook, an answer or a redirect names.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.message import Message
from typing import Final, TypeVar
from urllib.parse import urljoin, urlsplit

from providers.base import NotTaken, Refused, SendError

Result = TypeVar("Result")

MAX_REDIRECTS: Final = 3
"""More are not followed."""
CHUNK: Final = 64 * 1024
"""Bytes of a file in memory at a time."""
PLAIN: Final = {"Accept": "*/*", "Accept-Encoding": "identity"}
"""What every download asks for: the bytes as they are kept, so that their number is what was announced."""

_LONGEST: Final = 8192
# No user, no other port, no backslash, nothing beyond ASCII: nothing that two parsers may read in two ways.
_AFTER_HOST: Final = r"(?:[/?][!-\[\]-~]*)?"
_ADDRESS: Final = re.compile(rf"https://([a-z0-9-]+(?:\.[a-z0-9-]+)+)(?::443)?{_AFTER_HOST}", re.ASCII | re.IGNORECASE)
_REST: Final = re.compile(_AFTER_HOST, re.ASCII)


@dataclass(frozen=True, slots=True)
class Hosts:
    """Where a provider keeps files: hosts by name, domains all names under which count (with a dot in front), and the
    configured API itself (`own`, its URL), which may be plain http.
    """

    names: frozenset[str]
    own: str | None = None

    def allow(self, url: str) -> bool:
        """Whether a file may be fetched from there."""
        if len(url) > _LONGEST:
            return False
        if self.is_own(url):
            return True
        match = _ADDRESS.fullmatch(url)
        return match is not None and _is_among(match[1].lower(), self.names)

    def is_own(self, url: str) -> bool:
        """Whether this is at the configured API's own host."""
        origin = origin_of(self.own) if self.own else None
        if not origin or not url.lower().startswith(origin):
            return False
        return _REST.fullmatch(url, len(origin)) is not None

    def check(self, url: str | None) -> str:
        """The same URL. Raises `Refused` where nothing may be fetched from there."""
        if url and self.allow(url):
            return url
        # Not quoted: it may be signed, and it is nobody's of ours.
        raise Refused("media_host_refused", "The file's address is not one of the provider's own hosts.")

    def follow(self, url: str, location: str) -> str:
        """Where a redirect from `url` leads. Raises `Refused`, as `check`."""
        try:
            return self.check(urljoin(url, location))
        except ValueError:
            return self.check(None)


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL, in lower case."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


def meaning_of(status: int, retry_after: str | None) -> SendError | None:
    """What it means that a file was answered with this status; None where it comes."""
    detail = f"HTTP {status}"
    if status == 200:
        return None
    if status in (404, 410):
        return Refused("media_unavailable", detail)
    if status == 429:
        return NotTaken("throttled", detail, retry_after=seconds_of(retry_after), scope="account")
    code = {401: "token_revoked", 403: "permission_denied"}.get(status)
    return NotTaken(code or ("provider_unavailable" if status >= 500 else "refused"), detail)


def may_work_later(error: SendError) -> NotTaken:
    """The same failure of something that changes nothing at the provider, and can be asked again."""
    if isinstance(error, NotTaken):
        return error
    return NotTaken(error.code, error.detail, provider_code=error.provider_code)


def seconds_of(retry_after: str | None) -> float | None:
    """The seconds of a `Retry-After`, where it has seconds."""
    return float(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else None


def filename_of(disposition: str | None) -> str | None:
    """The name in a `Content-Disposition`."""
    if not disposition:
        return None
    message = Message()
    message["Content-Disposition"] = disposition.replace("\r", " ").replace("\n", " ")
    try:
        return message.get_filename() or None
    except (LookupError, ValueError, TypeError):  # an unknown charset
        return None


def size_of(length: str | None) -> int | None:
    """The bytes a `Content-Length` announces."""
    return int(length) if length and length.isascii() and length.isdigit() and len(length) < 16 else None


def _is_among(host: str, names: frozenset[str]) -> bool:
    return host in names or any(name.startswith(".") and host.endswith(name) for name in names)


async def within(deadline: float, waiting: Awaitable[Result], meaning: Callable[[Exception], SendError]) -> Result:
    """Wait, until the deadline (of the loop's clock) at most; `meaning` is what a failure means. Raises `NotTaken`."""
    try:
        async with asyncio.timeout_at(deadline):
            return await waiting
    except Exception as error:
        raise may_work_later(meaning(error)) from error
