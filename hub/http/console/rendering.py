"""How pages of the console come about: one way, on the server; and the headers that every one of them carries."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined

from hub.domain.ids import public_id
from hub.http.console.session import Session, Viewer

CSP: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
"""Of every page of console and documents."""

NavEntry = tuple[str, str, str | None, bool]
"""Title, URL, the scope it needs, whether it is the operator's only."""
NAVIGATION: Final[tuple[NavEntry, ...]] = (
    ("Overview", "/console", "read", False),
    ("Conversations", "/console/conversations", "read", False),
    ("Contacts", "/console/contacts", "profiles", False),
    ("Campaigns", "/console/campaigns", "profiles", False),
    ("Traffic", "/console/traffic", "read", False),
    ("Deliveries", "/console/deliveries", "read", False),
    ("Quarantine", "/console/quarantine", None, True),
    ("Numbers", "/console/numbers", "read", False),
    ("Services", "/console/services", None, True),
    ("Audit", "/console/audit", None, True),
)
"""What stands at the side of every page; whoever may not see a page does not see its entry."""

SESSION: Final = web.RequestKey("console_session", Session)
_MIME: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Asset:
    """A static file; its address changes with its content."""

    url: str
    content_type: str
    body: bytes


@cache
def assets() -> Mapping[str, Asset]:
    """The static files by name."""
    found = {}
    for file in files("hub.http.console").joinpath("static").iterdir():
        stem, _, ending = file.name.rpartition(".")
        if ending in _MIME:
            body = file.read_bytes()
            url = f"/console/static/{stem}.{sha256(body).hexdigest()[:16]}.{ending}"
            found[file.name] = Asset(url, _MIME[ending], body)
    return found


def asset_url(name: str) -> str:
    """Where a static file is served."""
    return assets()[name].url


def stylesheets() -> list[str]:
    """Where the style sheets are served: the console's own first, those of some of its pages behind it."""
    names = sorted((name for name in assets() if name.endswith(".css")), key=lambda name: (name != "console.css", name))
    return [asset_url(name) for name in names]


# Words of times and numbers -----------------------------------------------------------------------------------------


def as_time(value: datetime | str) -> datetime:
    """A time, or the text of one, in UTC."""
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def machine_time(value: datetime | str) -> str:
    """A time as `datetime` attributes have it."""
    return as_time(value).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def plain_time(value: datetime | str) -> str:
    """A time as it is read: to the second, in UTC; scripts say it in the reader's own zone."""
    return as_time(value).strftime("%d %b %Y, %H:%M:%S UTC")


_UNITS: Final = (("day", 86_400), ("h", 3600), ("min", 60))


def span(seconds: float) -> str:
    """So many seconds in words: `3 days`, `5 h 20 min`, `40 s`."""
    whole = int(abs(seconds))
    for name, size in _UNITS:
        if whole >= size:
            count, rest = divmod(whole, size)
            if name == "h" and rest >= 60:
                return f"{count} h {rest // 60} min"
            return f"{count} {name}{'s' if name == 'day' and count > 1 else ''}"
    return f"{whole} s"


def ago(value: datetime | str) -> str:
    """How long ago, or how far ahead, in words."""
    passed = datetime.now(UTC) - as_time(value)
    if abs(passed) < timedelta(seconds=1):
        return "now"
    words = span(passed.total_seconds())
    return f"{words} ago" if passed > timedelta(0) else f"in {words}"


def count(value: float) -> str:
    """A number with thin gaps between thousands."""
    return f"{value:,}".replace(",", "\u202f")


def words(value: object) -> str:
    """A code as people read it: `reply_window_closed` is `reply window closed`."""
    return str(value).replace("_", " ").replace(".", " ").strip()


def host(url: str) -> str:
    """The host that a URL leads to, port and all, as it stands there: what people must see before they follow it."""
    return url.partition("://")[2].split("/", 1)[0].split("?", 1)[0].split("#", 1)[0].rpartition("@")[2]


def pretty(value: object) -> str:
    """JSON, laid out for people."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=_plain)


def _plain(value: object) -> str:
    return machine_time(value) if isinstance(value, datetime) else str(value)


class Loose(dict[str, Any]):
    """A view of which not every field is always there: what is missing is None, where templates else are strict."""

    def __missing__(self, key: str) -> None:
        return None


def loose(value: Any) -> Any:
    """A view, and all within it, as `Loose`."""
    if isinstance(value, Mapping):
        return Loose({key: loose(inner) for key, inner in value.items()})
    return [loose(inner) for inner in value] if isinstance(value, list) else value


_FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "machine_time": machine_time,
    "plain_time": plain_time,
    "ago": ago,
    "span": span,
    "count": count,
    "words": words,
    "host": host,
    "pretty": pretty,
    "as_time": as_time,
    "loose": loose,
}


# Pages --------------------------------------------------------------------------------------------------------------


@cache
def templates() -> Environment:
    """The templates: everything that is put in is escaped, and nothing that is missing is left out silently."""
    made = Environment(
        loader=PackageLoader("hub.http.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(_FILTERS)
    made.globals.update(asset=asset_url, stylesheets=stylesheets, public_id=public_id)
    return made


def is_swap(request: web.Request) -> bool:
    """Whether a script asks for a page again, to swap its regions: nobody reads that answer from the top."""
    return request.headers.get("Partyline-Live") == "swap"


def render(
    request: web.Request, viewer: Viewer | None, template: str, *, title: str, status: int = 200, **values: Any
) -> web.Response:
    """A page; `values` are what its template shows."""
    session = request.get(SESSION)
    # A request that a form posted is no place to come back to.
    here = values.pop("here", request.path_qs if request.method in {"GET", "HEAD"} else "/console")
    entries = [entry for entry in NAVIGATION if viewer and _may_see(viewer, entry)]
    text = templates().get_template(template).render(
        title=title,
        viewer=viewer,
        here=here,
        path=request.path,
        navigation=entries,
        notice=_notice(session) if session and not is_swap(request) else None,
        session_ends=session.expires_at if session else None,
        now=datetime.now(UTC),
        **values,
    )  # fmt: skip
    return web.Response(text=text, status=status, content_type="text/html", headers=HEADERS)


def _may_see(viewer: Viewer, entry: NavEntry) -> bool:
    _, _, scope, operator_only = entry
    return viewer.is_operator if operator_only else viewer.may(scope)


def _notice(session: Session) -> tuple[str, bool] | None:
    """What the last form had to say, and whether it is a refusal."""
    if session.notice is None:
        return None
    return session.notice[1:], session.notice[0] == "!"
