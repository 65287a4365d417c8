"""What trackers say of pages, made fit to be kept: on which tracked site, and in bounds."""

import re
from typing import Final

from hub.domain.stitching import site_of
from hub.domain.tracking import Tracking

URL_LENGTH: Final = 2048
TITLE_LENGTH: Final = 300
KEY_NAME: Final = "_hk"
"""What a one-time key is called in the fragment of a page."""

# As browsers write an address: a host in ASCII, no backslashes before the path, which they take for slashes.
_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?:[^/?#\\@]*@)?(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?P<port>:[0-9]{1,5})?"
    r"(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?(?:#(?P<fragment>.*))?",
    re.IGNORECASE | re.DOTALL,
)
_ORIGIN: Final = re.compile(r"https?://[a-z0-9._-]+(?::[0-9]{1,5})?")
"""As browsers write those of names, in small letters; it is written back into headers."""
_UNSTORABLE: Final = re.compile(r"[\x00\ud800-\udfff]")
_BLANK: Final = re.compile(r"[\x01-\x20\x7f-\x9f]+")


def site_of_origin(origin: str | None, tracking: Tracking) -> str | None:
    """The tracked site of an `Origin` header; None: another's, or of no use.

    http counts on this machine (`localhost` and names under it), and where the hub's own bases are http.
    """
    if origin is None or not _ORIGIN.fullmatch(origin):
        return None
    scheme, _, authority = origin.partition("://")
    host = authority.partition(":")[0].rstrip(".")
    is_near = host == "localhost" or host.endswith(".localhost")
    is_plain = is_near or any(base.startswith("http:") for base in (tracking.link_base, tracking.collector_base))
    is_usable = scheme == "https" or is_plain
    return site_of(host, tracking.sites) if is_usable else None


def page_url(url: str, site: str, tracking: Tracking) -> str | None:
    """A page's address without user, password and one-time key; None where it is not on this tracked site."""
    found = _URL.fullmatch(clean(url).strip())
    if found is None or site_of(found["host"], tracking.sites) != site:
        return None
    parts = (found["fragment"] or "").split("&")
    fragment = "&".join(part for part in parts if part.partition("=")[0] != KEY_NAME)
    return f"{_bare(found)}{'#' if fragment else ''}{fragment}"[:URL_LENGTH]


def referrer_url(url: str | None) -> str | None:
    """Where a visitor came from, without user, password and fragment; None for what is no web address."""
    found = _URL.fullmatch(clean(url or "").strip())
    return _bare(found)[:URL_LENGTH] if found else None


def page_title(title: str | None) -> str | None:
    """A title in one line; None for none."""
    return _BLANK.sub(" ", clean(title or "")).strip()[:TITLE_LENGTH] or None


def clean(text: str) -> str:
    """Without what the database cannot hold: NUL, and halves of characters that a script has cut through."""
    return _UNSTORABLE.sub("", text)


def _bare(found: re.Match[str]) -> str:
    port, path, query = (found[part] or "" for part in ("port", "path", "query"))
    return f"{found['scheme'].lower()}://{found['host'].lower()}{port}{path}{query}"
