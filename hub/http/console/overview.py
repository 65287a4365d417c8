"""The console's first page: what needs somebody now, then how everything stands and flows."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aiohttp import web
from markupsafe import Markup

from hub.actions.standing import read_standing
from hub.domain.ids import public_id
from hub.http.console.attention import matters
from hub.http.console.charts import Series, line_chart, sparkline
from hub.http.console.pages import page, render
from hub.http.console.session import Viewer
from hub.http.context import CONTEXT
from hub.store import inbound, standing, talks, traffic
from hub.store.pool import Record

HOURS: Final = 3
_STEP: Final = 600
"""Seconds of one point of the chart, as rows of traffic are kept."""
_SUMS: Final = ("received", "accepted", "delivered", "failed", "webhooks", "retries")


def add_routes(app: web.Application) -> None:
    """Put this page into the application."""
    app.router.add_get("/console", page(show_overview, "read"))


async def show_overview(request: web.Request, viewer: Viewer) -> web.Response:
    """Problems first; then numbers with senders, parents and services; and what flowed in the last hours."""
    context, now = request.app[CONTEXT], datetime.now(UTC)
    since = now.replace(minute=now.minute // 10 * 10, second=0, microsecond=0) - timedelta(hours=HOURS)
    async with context.database.transaction() as conn:
        found = await read_standing(conn, viewer.service_id)
        channels = list((await traffic.find_reach(conn, viewer.service_id)).channels)
        flows = await standing.list_flows(conn, channels, viewer.service_id, since)
        quarantined = await inbound.count_open(conn) if viewer.is_operator else 0
        waiting = await talks.count_waiting(conn, channels if viewer.service_id else None, viewer.service_id)
    by_time = [row for row in flows if row["at"]]
    return render(
        request,
        viewer,
        "overview.html",
        title="Overview",
        matters=matters(
            found,
            now,
            is_operator=viewer.is_operator,
            quarantined=quarantined,
            waiting=waiting,
            dead_loops=context.problems() if viewer.is_operator else (),
        ),
        standing=found,
        totals=_totals(by_time),
        by_number=_by_number(by_time, since, now),
        by_service={(row["number_id"], public_id("svc", row["service_id"])): row for row in flows if not row["at"]},
        chart=_chart(by_time, since, now),
        hours=HOURS,
        public_url=context.public_url.rstrip("/"),
    )


def _totals(flows: Sequence[Record]) -> dict[str, Any]:
    return {name: sum(row[name] for row in flows) for name in _SUMS}


def _points(flows: Iterable[Record], since: datetime, now: datetime, name: str) -> list[tuple[datetime, float]]:
    """One value for each step, noughts included."""
    sums = [0.0] * (int((now - since).total_seconds() // _STEP) + 1)
    for row in flows:
        place = int((row["at"] - since).total_seconds() // _STEP)
        if 0 <= place < len(sums):
            sums[place] += row[name]
    return [(since + timedelta(seconds=place * _STEP), value) for place, value in enumerate(sums)]


def _chart(flows: Sequence[Record], since: datetime, now: datetime) -> Markup:
    """Messages alone: of webhooks there are many times as many, and beside them every day would look flat."""
    series = [
        Series("from customers", _points(flows, since, now, "received")),
        Series("to customers", _points(flows, since, now, "accepted")),
    ]
    return line_chart(f"Messages, every {_STEP // 60} minutes", series)


def _by_number(flows: Sequence[Record], since: datetime, now: datetime) -> dict[int, dict[str, Any]]:
    grouped: dict[int, list[Record]] = {}
    for row in flows:
        grouped.setdefault(row["number_id"], []).append(row)
    return {
        key: _totals(own)
        | {"line": sparkline([v for _, v in _points(own, since, now, "received")], "Messages from customers")}
        for key, own in grouped.items()
    }
