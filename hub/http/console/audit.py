"""Who did what, for the operator (rule A8)."""

from typing import Any, Final
from uuid import UUID

import orjson
from aiohttp import web

from hub.domain.ids import public_id
from hub.http.console.desks import MOST
from hub.http.console.fields import PAGE, asked, before_of, next_url
from hub.http.console.pages import page, render
from hub.http.console.session import Viewer
from hub.http.context import CONTEXT
from hub.store import audit_search, services
from hub.store.audit_search import AuditFilter
from hub.store.pool import Record

TOPICS: Final = (
    "service", "key", "secret", "number", "sender", "channel", "subscription", "replay", "dead_letters", "quarantine",
    "message", "contact", "identity", "link", "console",
)  # fmt: skip
"""What actions are named after: `key.added` is about a key."""
_NAMED: Final = {"svc": "/console/services/", "rpl": "/console/replays/", "con": "/console/contacts/",
                 "msg": "/console/messages/", "cnv": "/console/conversations/", "evt": "/console/events/",
                 "sub": "/console/subscriptions/", "lnk": "/console/links/"}  # fmt: skip
"""Where what an id names is shown."""


def add_routes(app: web.Application) -> None:
    """Put this path into the application."""
    app.router.add_get("/console/audit", page(show_audit, operator_only=True))


async def show_audit(request: web.Request, viewer: Viewer) -> web.Response:
    """The trail, newest first, by who, what, about what, and any id that stands in it."""
    wanted = AuditFilter(
        asked(request, "actor"), asked(request, "action"), asked(request, "subject"), _mention(request)
    )
    async with request.app[CONTEXT].database.reading() as conn:
        rows, following = await audit_search.search(conn, before_of(request), wanted, PAGE)
        known = await services.list_services(conn, UUID(int=0), MOST)
    names = {public_id("svc", row["id"]): row["name"] for row in known}
    return render(
        request, viewer, "audit.html", title="Audit", rows=[_view(row, names) for row in rows], wanted=wanted,
        topics=TOPICS, services=names, is_later="before" in request.query,
        next_url=next_url(request, before=following) if following is not None else None,
    )  # fmt: skip


def _mention(request: web.Request) -> str | None:
    return asked(request, "service") or asked(request, "id")


def _view(row: Record, names: dict[str, str]) -> dict[str, Any]:
    """Details as pairs of a name and a text; ids become links, services have their names."""
    details = orjson.loads(row["details"])
    pairs = details.items() if isinstance(details, dict) else [("details", details)]
    return {
        **{name: row[name] for name in ("id", "at", "actor", "action", "subject")},
        "actor_name": names.get(row["actor"], row["actor"]),
        "actor_url": url_of(row["actor"]),
        "subject_url": _subject_url(row),
        "details": [
            (name, _text(value), url_of(value), names.get(str(value))) for name, value in pairs if value is not None
        ],
    }


def _subject_url(row: Record) -> str | None:
    subject = row["subject"] or ""
    if subject.startswith("+"):
        return f"/console/numbers/{subject}"
    if row["action"].startswith("quarantine.") and subject.isdigit():
        return f"/console/quarantine/{subject}"
    return url_of(subject)


def url_of(value: object) -> str | None:
    """The page of what an id names."""
    text = str(value)
    return f"{_NAMED[text[:3]]}{text}" if text[3:4] == "_" and text[:3] in _NAMED else None


def _text(value: object) -> str:
    """A value of the details as people read it."""
    match value:
        case bool():
            return "yes" if value else "no"
        case None:
            return "none"
        case dict():
            return ", ".join(f"{name.replace('_', ' ')} {_text(each)}" for name, each in value.items())
        case list():
            return ", ".join(" ".join(map(_text, each)) if isinstance(each, list) else _text(each) for each in value)
        case _:
            return str(value)
