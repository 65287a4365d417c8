"""A message's life as one story, everything in order of time: for people, in sentences."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

_CALLS: Final = {
    "taken": "the provider took it",
    "refused": "the provider refused it",
    "not_taken": "certainly not taken, tried again or given up",
    "unknown": "nobody knows whether it was taken (rule E8)",
}
_DELIVERIES: Final = {
    "delivered": "accepted",
    "refused": "refused by the endpoint",
    "failed": "the endpoint failed",
    "gone": "the endpoint says it is gone",
}
OUTCOMES: Final = {
    "delivered": "delivered",
    "dead": "given up: a dead letter",
    "filtered": "not asked for by its event_types",
    "expired": "gone by retention before it was delivered",
    "parked": "waits: its conversation's deliveries fail",
    "disconnected": "not delivered before the service left",
    "pull": "no endpoint: it is pulled",
    "settled": "behind the subscription's cursor: accepted or skipped, when is kept no longer",
    "paused": "waits: deliveries are paused",
    "waiting": "waits for its delivery",
}
"""What became of an event for a service, in words."""

Step = tuple[datetime, str, str]


def steps(life: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Everything that a trace tells with a time, oldest first."""
    found = [*_message(life), *_rules(life), *_calls(life), *_statuses(life), *_events(life), *_clicks(life)]
    found.sort(key=lambda step: step[0])  # stable: what happened at once stays in the order above
    return [{"at": at, "what": what, "text": text} for at, what, text in found]


def _message(life: Mapping[str, Any]) -> Iterator[Step]:
    message, ingress = life.get("message"), life.get("ingress")
    if ingress:
        if ingress["provider_time"]:
            yield ingress["provider_time"], "provider", f"written, by the clock of {ingress['provider']}"
        for entry in ingress["quarantine"]:
            yield entry["received_at"], "quarantine", f"into quarantine: {entry['reason']} (rule B5)"
            if entry["replayed_at"]:
                yield entry["replayed_at"], "quarantine", "taken in after all, by a replay of the quarantine"
        how = "from the provider's list, its webhook never came" if ingress["reconciled"] else "by a signed webhook"
        yield ingress["taken_in_at"], "taken_in", f"taken in from {ingress['provider']}, {how}"
    elif message:
        author = message.get("author") or {}
        agent = (message.get("agent") or {}).get("name")
        by = f", written by {agent}" if agent else ""
        yield message["created_at"], "accepted", f"accepted from {author.get('name') or 'past the hub'}{by}"


def _rules(life: Mapping[str, Any]) -> Iterator[Step]:
    for ruling in life["rules"]:
        yield life["message"]["created_at"], "rule", f"{ruling['rule']}: {ruling['text']}"


def _calls(life: Mapping[str, Any]) -> Iterator[Step]:
    for call in life["provider_calls"]:
        code = next((f", {call[name]}" for name in ("provider_code", "code") if call[name]), "")
        took = f" after {call['took_ms']} ms" if call["took_ms"] is not None else ""
        yield call["at"], "provider_call", f"attempt {call['attempt']}: {_CALLS[call['outcome']]}{took}{code}"


def _statuses(life: Mapping[str, Any]) -> Iterator[Step]:
    for status in life["statuses"]:
        clock = f", {status['provider_time']:%H:%M:%S} by the provider's clock" if status["provider_time"] else ""
        code = f", {status['code']}" if status["code"] else ""
        yield status["at"], "status", f"{status['status'] or status['reported']}{clock}{code}"


def _events(life: Mapping[str, Any]) -> Iterator[Step]:
    for event in life["events"]:
        place = f", number {event['sequence']} of its conversation" if event["sequence"] is not None else ""
        yield event["at"], "event", f"{event['type']} {event['event_id']}{place}"
        for delivery in event["deliveries"]:
            yield from _delivery(event, delivery)


def _delivery(event: Mapping[str, Any], delivery: Mapping[str, Any]) -> Iterator[Step]:
    who = f"{delivery['service']['name']}, {event['type']}"
    for attempt in delivery["attempts"]:
        status = f" with {attempt['http_status']}" if attempt["http_status"] else ""
        detail = f": {attempt['detail']}" if attempt["detail"] else ""
        said = f"{_DELIVERIES[attempt['outcome']]}{status} after {attempt['duration_ms']} ms{detail}"
        yield attempt["at"], "delivery", f"{who}: {said}"
    if delivery["dead"]:
        yield delivery["dead"]["at"], "dead_letter", f"{who}: given up after {delivery['dead']['attempts']} attempts"


def _clicks(life: Mapping[str, Any]) -> Iterator[Step]:
    for link in life["links"]:
        people = (link.get("clicks") or {}).get("people") or 0
        if people:
            clicks = link["clicks"]
            yield clicks["first_at"], "click", f"{link['id']}: clicked by a person"
            if clicks["last_at"] != clicks["first_at"]:
                yield clicks["last_at"], "click", f"{link['id']}: the last of {people} clicks by people"
