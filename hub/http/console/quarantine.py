"""What could not be taken in: why, with which bytes, and taking it in after all (rule B5)."""

from collections import Counter
from time import monotonic
from typing import Any, Final

import orjson
from aiohttp import web

from hub.domain.errors import Conflict, Invalid, NotFound
from hub.http.admin_quarantine import take_in
from hub.http.console.fields import PAGE, Fields, asked, before_of, given, next_url
from hub.http.console.pages import form, page, render, see_other
from hub.http.console.quarantine_words import cure_of, meaning_of
from hub.http.console.session import Viewer
from hub.http.context import CONTEXT, Context
from hub.store import inbound, quarantine_desk
from hub.store.pool import Record

BATCH: Final = 100
LONGEST: Final = 10.0
"""Seconds after which one press of a button begins with no other hundred of entries."""
SHOWN: Final = 65_536
"""Bytes of an entry that are shown."""
_STATES: Final = ("open", "noted", "replayed")
_URL: Final = "/console/quarantine"
_CONTROLS: Final = {
    **{code: f"\\x{code:02x}" for code in (*range(9), 11, 12, *range(14, 32), 127)},
    **{code: f"\\u{code:04x}" for code in (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))},
}
"""Characters that nobody sees, or that turn the text around them: shown by their values."""


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    app.router.add_get(_URL, page(show_quarantine, operator_only=True))
    app.router.add_post(f"{_URL}/replay", form(replay_many, operator_only=True))
    app.router.add_get(f"{_URL}/{{id}}", page(show_entry, operator_only=True))
    app.router.add_post(f"{_URL}/{{id}}/replay", form(replay_one, operator_only=True))


async def show_quarantine(request: web.Request, viewer: Viewer) -> web.Response:
    """Open entries by reason, and entries newest first."""
    state, reason = asked(request, "state") or "open", asked(request, "reason")
    if state not in {*_STATES, "all"}:
        raise Invalid("state is open, noted, replayed or all")
    async with request.app[CONTEXT].database.reading() as conn:
        reasons = await quarantine_desk.count_reasons(conn)
        rows, following = await quarantine_desk.list_newest(
            conn, before_of(request), PAGE, None if state == "all" else state, reason
        )
    return render(
        request, viewer, "quarantine.html", title="Quarantine", reasons=[_reason(row) for row in reasons],
        rows=[dict(row) for row in rows], state=state, states=(*_STATES, "all"), reason=reason,
        next_url=next_url(request, before=following) if following is not None else None,
        is_later="before" in request.query, counted=quarantine_desk.REACH,
    )  # fmt: skip


def _reason(row: Record) -> dict[str, Any]:
    return {**dict(row), "meaning": meaning_of(row["reason"]), "cure": cure_of(row["reason"])}


async def show_entry(request: web.Request, viewer: Viewer) -> web.Response:
    """One entry: why it is here, what to do, and its bytes."""
    async with request.app[CONTEXT].database.reading() as conn:
        row = await inbound.find_quarantined(conn, _entry_id(request))
    if row is None:
        raise _unknown()
    raw = bytes(row["raw"])
    names = ("id", "provider", "path", "content_type", "reason", "detail", "state", "times", "received_at",
             "last_received_at", "replayed_at")  # fmt: skip
    text, form_of = shown(raw)
    return render(
        request, viewer, "quarantine_entry.html", title=f"Quarantine {row['id']}",
        entry={name: row[name] for name in names}, size=len(raw), raw=text, form_of=form_of, limit=SHOWN,
        meaning=meaning_of(row["reason"]), cure=cure_of(row["reason"]),
    )  # fmt: skip


def shown(raw: bytes) -> tuple[str, str]:
    """Bytes as text that does no harm, and how they are shown: JSON laid out, text as it came, or bytes that are no
    text by their values; control characters by theirs.
    """
    if len(raw) <= SHOWN:
        try:
            text = orjson.dumps(orjson.loads(raw), option=orjson.OPT_INDENT_2).decode()
            return text.translate(_CONTROLS), "json"
        except orjson.JSONDecodeError:
            pass
    text = raw[:SHOWN].decode("utf-8", "backslashreplace")
    return text.translate(_CONTROLS), "text"


def _entry_id(request: web.Request) -> int:
    text = request.match_info["id"]
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise _unknown()
    return int(text)


def _unknown() -> NotFound:
    return NotFound("There is no such quarantine entry.")


async def replay_one(request: web.Request, _: Viewer, __: Fields) -> web.Response:
    """Take an entry in, now that its number is registered or the parser knows better."""
    entry_id = _entry_id(request)
    received = await take_in(request.app[CONTEXT], entry_id)
    notice = f"Taken in: {received.fresh} new, {received.duplicates} that were there already."
    return see_other(request, f"{_URL}/{entry_id}", notice=notice)


async def replay_many(request: web.Request, _: Viewer, fields: Fields) -> web.Response:
    """Take open entries of a reason in, the oldest first, each by itself: what still cannot be taken in stays, and
    harms no other.
    """
    context, reason = request.app[CONTEXT], given(fields, "reason")
    count: Counter[str] = Counter()
    stays: Counter[str] = Counter()
    after, ends, is_more = 0, monotonic() + LONGEST, True
    while is_more and monotonic() < ends:
        async with context.database.reading() as conn:
            found = await inbound.list_open(conn, after, BATCH, reason, None, None)
        for entry_id in found:
            await _try(context, entry_id, count, stays)
        is_more = len(found) == BATCH
        after = found[-1] if found else after
    return see_other(request, _URL, notice=_told(count, stays, is_more=is_more))


async def _try(context: Context, entry_id: int, count: Counter[str], stays: Counter[str]) -> None:
    try:
        received = await take_in(context, entry_id)
    except Conflict as refusal:
        stays.update(refusal.facts.get("reasons", [refusal.code]))
        count["stays"] += 1
    else:
        count.update(entries=1, fresh=received.fresh, duplicates=received.duplicates)


def _told(count: Counter[str], stays: Counter[str], *, is_more: bool) -> str:
    told = (
        f"{count['entries']} taken in ({count['fresh']} new items, {count['duplicates']} that were there already)."
        if count["entries"]
        else "Nothing was taken in."
    )
    if count["stays"]:
        why = ", ".join(f"{reason} {number}" for reason, number in stays.most_common())
        told += f" {count['stays']} cannot be taken in yet: {why}."
    return f"{told} There are more: press again." if is_more else told
