"""What somebody must do now: out of how things stand, worst first; each with the page where it is done."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from urllib.parse import quote

from hub.actions.standing import Standing
from hub.http.console.rendering import count, span, words

Weight = Literal["bad", "warn", "wait"]
_ORDER: Final[dict[Weight, int]] = {"bad": 0, "warn": 1, "wait": 2}
SLOW: Final = 60.0
"""Seconds of lag from which on deliveries are late."""
WAITING: Final = timedelta(minutes=2)
"""How long a message may wait for its sender before it is told of."""
JOINING: Final = timedelta(minutes=1)
"""How long a new connection may be without a process that delivers to it."""
_MOST: Final = 1000
_REASONS: Final = {
    "gone": "its endpoint answered 410, which asks for nothing more",
    "failing": "its endpoint failed for five days",
    "asked": "its service asked for it",
    "operator": "an operator did it",
}


@dataclass(frozen=True, slots=True)
class Matter:
    """One thing to see to: what it is, what to do about it, and where."""

    weight: Weight
    title: str
    text: str
    url: str
    label: str


def matters(
    standing: Standing,
    now: datetime,
    *,
    is_operator: bool,
    quarantined: int = 0,
    waiting: int = 0,
    dead_loops: Sequence[str] = (),
) -> list[Matter]:
    """Everything that needs somebody, worst first."""
    found: list[Matter] = [_loop(name) for name in dead_loops]
    for number in standing.numbers:
        found += _senders(number, is_operator=is_operator)
        found += _channels(number, is_operator=is_operator)
    for connection in standing.connections:
        found += _deliveries(connection, now, is_operator=is_operator)
    found += _backlog(standing.backlog, now)
    if quarantined:
        found.append(_quarantine(quarantined))
    if waiting:
        found.append(_passed(waiting, is_operator=is_operator))
    return sorted(found, key=lambda matter: _ORDER[matter.weight])


def _loop(name: str) -> Matter:
    text = f"The loop {name.removeprefix('loop:')!r} of this process keeps ending and is started again: see the log."
    return Matter("bad", "A part of the hub does not run", text, "/docs/operations", "What the loops do")


def _senders(number: Mapping[str, Any], *, is_operator: bool) -> Iterator[Matter]:
    url = f"/console/numbers/{quote(number['e164'], safe='+')}"
    for sender in number["senders"]:
        health = sender["health"]
        name = f"{_medium(sender['medium'])} on {number['e164']}"
        for problem in health["problems"]:
            weight: Weight = "bad" if health["state"] == "down" else "warn"
            title = f"{name}: {words(problem['code'])}"
            yield Matter(weight, title, problem["detail"], url, "See the sender")
    if is_operator and not number["senders"]:
        text = "Nothing can be sent or received until it has a sender."
        yield Matter("warn", f"{number['e164']} has no sender", text, url, "Give it one")


def _channels(number: Mapping[str, Any], *, is_operator: bool) -> Iterator[Matter]:
    url = f"/console/numbers/{quote(number['e164'], safe='+')}"
    shared = [channel for channel in number["channels"] if channel["kind"] == "shared"]
    if is_operator and not any(channel["members"] for channel in number["channels"]):
        text = "What customers write is stored and goes to nobody (rule A7): have a service connect to it."
        yield Matter("warn", f"No service is connected to {number['e164']}", text, url, "See the number")
    for channel in shared:
        if channel["members"] and not channel["parent"]:
            text = "Nobody may automate on it (rule E2): hand parenthood over."
            yield Matter("warn", f"{number['e164']} has no parent", text, url, "Hand it over")


def _deliveries(connection: Mapping[str, Any], now: datetime, *, is_operator: bool) -> Iterator[Matter]:
    delivery = connection["delivery"]
    number = connection["number"]
    who = f"{connection['name']} on {number}" if is_operator else f"Your endpoint for {number}"
    url, label = f"/console/subscriptions/{connection['id']}", "See its deliveries"
    lag = (delivery["lag"] or {}).get("seconds") or 0.0
    behind = (delivery["lag"] or {}).get("events") or 0
    if delivery["state"] == "paused":
        why = _REASONS.get(delivery["paused_reason"] or "", "somebody paused it")
        waits = f"{count(behind)} events wait" if behind else "events wait"  # how many nobody counts meanwhile
        text = f"Nothing is delivered, and {waits}: {why}. Put it right, then resume."
        weight: Weight = "wait" if delivery["paused_reason"] in {"asked", "operator"} else "bad"
        yield Matter(weight, f"{who} is paused", text, url, "Resume")
    elif delivery["breaker"] in {"open", "half_open"}:
        failing = delivery["failing_since"]
        since = f", since {span((now - failing).total_seconds())}" if failing else ""
        said = f": {delivery['last_error']}" if delivery["last_error"] else ""
        text = f"It fails{since}{said}. {count(behind)} events wait; nothing is lost, it is tried again by itself."
        yield Matter("bad", f"{who} does not take events", text, url, label)
    elif delivery["lag"] is None and connection["endpoint_url"] and now - connection["connected_at"] >= JOINING:
        text = "No process of the hub delivers to it just now. Nothing is lost: events wait for one (role fanout)."
        yield Matter("bad", f"{who}: nothing is delivered", text, url, label)
    elif lag >= SLOW:
        text = f"It is {span(lag)} behind, {count(behind)} events: its endpoint answers slowly."
        yield Matter("warn", f"{who} is late", text, url, label)
    if delivery["parked_lanes"]:
        text = "Each is tried again by itself, for about three days; the others go on meanwhile (rule G3)."
        many = delivery["parked_lanes"]
        title = f"{who}: {count(many)} conversations fail" if many != 1 else f"{who}: one conversation fails"
        yield Matter("warn", title, text, url, label)
    if connection["dead"]:
        text = "They were given up, and go out again only by a replay."
        dead = f"/console/dead-letters?service={connection['service_id']}" if is_operator else "/console/dead-letters"
        yield Matter("warn", f"{who}: {_many(connection['dead'])} dead letters", text, dead, "Replay or discard")


def _backlog(backlog: Iterable[Mapping[str, Any]], now: datetime) -> Iterator[Matter]:
    for row in backlog:
        if now - row["oldest_at"] >= WAITING:
            waited = span((now - row["oldest_at"]).total_seconds())
            text = f"The oldest waits since {waited}: its sender is throttled, too slow, or not running."
            title = f"{_many(row['waiting'])} messages wait to be sent by {_medium(row['medium'])} on {row['e164']}"
            url = f"/console/numbers/{quote(row['e164'], safe='+')}"
            yield Matter("warn", title, text, url, "See the sender")


def _quarantine(many: int) -> Matter:
    text = "Items of providers that could not be taken in; they are kept, and can be replayed (rule B5)."
    return Matter("warn", f"{_many(many)} in quarantine", text, "/console/quarantine", "Look at them")


def _passed(many: int, *, is_operator: bool) -> Matter:
    title = f"{_many(many)} conversations wait" if many != 1 else "One conversation waits"
    text = "They were passed on, and nobody has picked them up or answered (rule D4)."
    whose = title if is_operator else f"{title} for you"
    return Matter("wait", whose, text, "/console/conversations?show=waiting", "Look at them")


def _many(number: int) -> str:
    return f"more than {count(_MOST)}" if number > _MOST else count(number)


def _medium(name: str) -> str:
    return {"whatsapp": "WhatsApp", "sms": "SMS"}.get(name, name)
