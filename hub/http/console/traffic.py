"""The console: what flowed in the last hour, day or week: messages, deliveries, and how long they took."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from aiohttp import web
from markupsafe import Markup

from hub.domain.errors import Invalid
from hub.domain.ids import parse_id, public_id
from hub.http.console.chart_scales import duration_text
from hub.http.console.charts import Series, line_chart
from hub.http.console.fields import asked
from hub.http.console.pages import page, render
from hub.http.console.session import Viewer
from hub.http.context import CONTEXT
from hub.store import talks, traffic
from hub.store.pool import Connection
from hub.store.traffic import Flow, Reach

MOST_LINES: Final = 6
"""Services drawn by themselves; of more, those with the longest lag."""


@dataclass(frozen=True, slots=True)
class Span:
    """How far back a page looks, and in which steps."""

    name: str
    title: str
    length: timedelta
    step: int


SPANS: Final = (
    Span("hour", "1 hour", timedelta(hours=1), 60),
    Span("day", "24 hours", timedelta(hours=24), 600),
    Span("week", "7 days", timedelta(days=7), 3600),
)
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


def add_routes(app: web.Application) -> None:
    """Put this page into the application."""
    app.router.add_get("/console/traffic", page(show_traffic, "read"))


async def show_traffic(request: web.Request, viewer: Viewer) -> web.StreamResponse:
    """Traffic, latency, and lag by service, of numbers and services as they are picked."""
    span = _span(request)
    number, who = asked(request, "number"), asked(request, "service")
    of_service = parse_id("svc", who) if who else None
    async with request.app[CONTEXT].database.reading() as conn:
        channels = await talks.list_channels(conn, viewer.service_id, None)
        reach = Reach(
            [row["channel_id"] for row in channels if number is None or row["e164"] == number], viewer.service_id
        )
        times = _times(span, datetime.now(UTC))
        until = times[-1] + 2 * timedelta(seconds=span.step)
        flows = await traffic.read_traffic(conn, reach, times[0], until, span.step, of_service=of_service)
        by_service = await traffic.read_traffic(
            conn, reach, times[0], until, span.step, of_service=of_service, by_service=True
        )
        names = await _names(conn, reach)
    if flows and all(flow.at > times[-1] for flow in flows):  # it has only just begun
        times = [*times[1:], times[-1] + timedelta(seconds=span.step)]
    return render(
        request, viewer, "traffic.html", title="Traffic", span=span, spans=SPANS, number=number or "", who=who or "",
        numbers=sorted({row["e164"] for row in channels}), services=sorted(names.items(), key=lambda pair: pair[1]),
        totals=_totals(flows), drawn=_draw(times, flows, by_service, names), rows=_rows(by_service, names),
        is_empty=not flows, seen_to=times[-1],
    )  # fmt: skip


def _span(request: web.Request) -> Span:
    name = asked(request, "span") or SPANS[0].name
    found = next((span for span in SPANS if span.name == name), None)
    if found is None:
        raise Invalid("span is hour, day or week: pick one.")
    return found


def _times(span: Span, now: datetime) -> list[datetime]:
    """The steps of a span that are over: the one that runs now would look like an end to everything."""
    step = timedelta(seconds=span.step)
    last = _EPOCH + ((now - _EPOCH) // step - 1) * step
    count = span.length // step
    return [last - step * (count - 1 - n) for n in range(count)]


async def _names(conn: Connection, reach: Reach) -> dict[str, str]:
    """Services on these channels: for the operator all, for a service itself."""
    rows = await traffic.list_services(conn, reach)
    return {public_id("svc", row["id"]): row["name"] for row in rows}


_SUMS: Final = ("received", "accepted", "taken", "delivered", "failed", "refused", "webhooks", "retries")


def _totals(flows: Sequence[Flow]) -> dict[str, int]:
    return {name: sum(getattr(flow, name) for flow in flows) for name in _SUMS}


def _draw(
    times: Sequence[datetime], flows: Sequence[Flow], by_service: Sequence[Flow], names: dict[str, str]
) -> dict[str, Markup]:
    lags = _lags(times, by_service, names)
    return {
        "messages": line_chart(
            "Messages",
            [
                _counts("received", times, flows, "received", 1),
                _counts("accepted to send", times, flows, "accepted", 5),
                _counts("delivered", times, flows, "delivered", 3),
                _counts("failed or refused", times, flows, "failed", 4, "refused"),
            ],
            "messages",
            key="chart-messages",
        ),
        "webhooks": line_chart(
            "Deliveries to services",
            [
                _counts("accepted", times, flows, "webhooks", 3),
                _counts("failed attempts", times, flows, "retries", 4),
            ],
            "events",
            key="chart-webhooks",
        ),
        "take": line_chart(
            "Until the provider took it",
            _halves(times, flows, "take"),
            "seconds",
            key="chart-take",
        ),
        "lag": line_chart(
            "Until the service had it",
            _halves(times, flows, "lag"),
            "seconds",
            key="chart-lag",
        ),
        "lags": line_chart("Lag by service: 95 % within", lags, "seconds", key="chart-lags"),
    }  # fmt: skip


def _counts(
    name: str, times: Sequence[datetime], flows: Sequence[Flow], field: str, tone: int, more: str = ""
) -> Series:
    """Nothing written down for a step is none, not a gap."""
    known = {flow.at: getattr(flow, field) + (getattr(flow, more) if more else 0) for flow in flows}
    return Series(name, [(at, known.get(at, 0)) for at in times], tone)


def _halves(times: Sequence[datetime], flows: Sequence[Flow], field: str) -> list[Series]:
    return [
        _seconds("half within", times, flows, f"{field}_p50", 1),
        _seconds("95 % within", times, flows, f"{field}_p95", 2),
    ]


def _seconds(name: str, times: Sequence[datetime], flows: Sequence[Flow], field: str, tone: int) -> Series:
    known = {flow.at: getattr(flow, field) for flow in flows}
    return Series(name, [(at, known.get(at)) for at in times], tone)


def _lags(times: Sequence[datetime], flows: Sequence[Flow], names: dict[str, str]) -> list[Series]:
    found: dict[UUID, list[Flow]] = {}
    for flow in flows:
        if flow.service_id and flow.lag_p95 is not None:
            found.setdefault(flow.service_id, []).append(flow)
    longest: Callable[[UUID], float] = lambda key: -max(flow.lag_p95 or 0 for flow in found[key])  # noqa: E731
    return [
        _seconds(names.get(public_id("svc", key), "a removed service"), times, found[key], "lag_p95", n + 1)
        for n, key in enumerate(sorted(found, key=longest)[:MOST_LINES])
    ]


def _rows(flows: Sequence[Flow], names: dict[str, str]) -> list[dict[str, Any]]:
    """By service: what it sent, what it was brought, and how long that took at worst."""
    found: dict[UUID, list[Flow]] = {}
    for flow in flows:
        if flow.service_id:
            found.setdefault(flow.service_id, []).append(flow)
    rows = [
        {
            "id": public_id("svc", key),
            "name": names.get(public_id("svc", key), "a removed service"),
            **_totals(its),
            "lag": _said(max((flow.lag_p95 for flow in its if flow.lag_p95 is not None), default=None)),
            "answer": _said(_average([(flow.answer, flow.webhooks) for flow in its])),
        }
        for key, its in found.items()
    ]
    return sorted(rows, key=lambda row: str(row["name"]).casefold())


def _said(seconds: float | None) -> str:
    return "–" if seconds is None else duration_text(seconds)


def _average(parts: Sequence[tuple[float | None, int]]) -> float | None:
    total = sum(count for value, count in parts if value is not None)
    return sum(value * count for value, count in parts if value is not None) / total if total else None
