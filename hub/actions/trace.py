"""Reading: what happened to one message, from the provider's webhook or the service's request to the last delivery.

Who looks sees of it what they see anywhere: a service its own deliveries and what its key may see of the message, the
operator a message as a service does that nobody shares with (rules C1, C2). What retention has dropped is named in
`gone`, so that nobody takes it for never having been.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson

from hub.actions.audience import body, viewer_of
from hub.actions.click_reports import report_message
from hub.actions.look import Span, View, read_messages, view_messages
from hub.actions.reveal import mask_event
from hub.actions.timeline import view_conversations
from hub.actions.trace_deliveries import channels_of, view_events
from hub.actions.trace_inbound import QUARANTINED, key_of, quarantine_view, tell_rules, view_ingress
from hub.domain.errors import NotFound
from hub.domain.events import Event
from hub.domain.ids import event_id, parse_id, public_id
from hub.domain.rulings import tell
from hub.domain.story import steps
from hub.store import (
    conversations,
    event_lives,
    event_log,
    lives,
    messages,
    overview,
    services,
    subscriptions,
    visibility,
)
from hub.store.inbound import key_digest
from hub.store.pool import Connection, Record

MOST_EVENTS: Final = 50
"""Events of one message that are told of: the first ones."""
MOST_CALLS: Final = 50
_LATEST: Final = 20
"""Messages of a conversation that are named when it is traced."""
_SAME: Final = 20
"""Messages that one provider's id may lead to: one for each channel of a number."""
_LONGEST: Final = 200
_EVENT: Final = re.compile("evt_[0-9a-f]{1,16}")
_EMPTY: Final[dict[str, Any]] = {
    "message": None, "conversation": None, "contact": None, "ingress": None, "rules": [], "provider_calls": [],
    "statuses": [], "events": [], "links": [], "gone": [], "also": [], "steps": [],
}  # fmt: skip


async def trace(conn: Connection, view: View, text: str, now: datetime) -> dict[str, Any]:
    """What happened to a message, an event, a conversation's latest messages (`msg_`, `evt_`, `cnv_`), or to what a
    provider calls so. Raises `NotFound`.
    """
    if text.startswith("msg_"):
        return await trace_message(conn, view, parse_id("msg", text), now)
    if text.startswith("evt_"):
        return await trace_event(conn, view, _event_number(text), now)
    if text.startswith("cnv_"):
        return await trace_conversation(conn, view, parse_id("cnv", text))
    return await _trace_provider_id(conn, view, text, now)


def _event_number(text: str) -> int:
    if not _EVENT.fullmatch(text):
        raise _nothing(text)
    return min(int(text[4:], 16), 2**63 - 1)


def _nothing(text: str) -> NotFound:
    return NotFound(
        f"Nothing is known of {text[:60]!r}, or it is on a channel this service is not connected to (rule A4): give the"
        " id of a message (msg_...), an event (evt_...) or a conversation (cnv_...), or a provider's id of a message"
        " (wamid..., SM..., MM...)."
    )


# A message ------------------------------------------------------------------------------------------------------------


async def trace_message(conn: Connection, view: View, message_id: UUID, now: datetime) -> dict[str, Any]:
    """The life of one message. Raises `NotFound`."""
    row = await messages.find_message(conn, message_id)
    talk = await _reach(conn, view, row["conversation_id"]) if row else None
    if row is None or talk is None:
        raise _nothing(public_id("msg", message_id))
    (seen,) = await view_messages(conn, view, [row])
    (conversation,) = await view_conversations(conn, view.service_id, [talk])
    begin = await event_log.find_before(conn, row["created_at"])
    events = await event_lives.list_of_message(conn, row["conversation_id"], begin, message_id, MOST_EVENTS)
    told = await _view_events(conn, view, events)
    life = _EMPTY | {
        "kind": "message",
        "id": public_id("msg", message_id),
        "message": seen
        | {
            "conversation_id": public_id("cnv", row["conversation_id"]),
            "channel_id": public_id("chn", row["channel_id"]),
        },
        "conversation": conversation,
        "contact": conversation["contact"],
        "statuses": await _view_statuses(conn, view, row, seen),
        "events": told,
        "links": await _view_links(conn, view, message_id, now),
    }
    if not _is_own(row):
        ingress = await view_ingress(conn, row)
        heard = len(told[0]["deliveries"]) if told and view.service_id is None else 0
        life |= {"ingress": ingress, "rules": tell_rules(row, ingress, events, heard)}
    else:
        life |= await _view_sending(conn, view, row, seen)
    life["gone"] = _gone(row, seen, life)
    return life | {"steps": steps(life)}


async def _reach(conn: Connection, view: View, conversation_id: UUID) -> Record | None:
    if view.service_id is None:
        return await overview.find_conversation(conn, conversation_id)
    return await conversations.find_in_reach(conn, conversation_id, view.service_id)


async def _view_events(conn: Connection, view: View, events: Sequence[Event]) -> list[dict[str, Any]]:
    heard = [event for event in events if _may_hear(view, event)]
    channels = channels_of(heard)
    policies = await visibility.read_policies(conn, channels) if channels else {}
    return await view_events(conn, view.service_id, heard, policies)


def _is_own(row: Record) -> bool:
    """Whether it went out through the hub. What customers wrote came in by a webhook, and so did what the business sent
    past the hub, from its phone or through another.
    """
    return row["author_service_id"] is not None


def _may_hear(view: View, event: Event) -> bool:
    return view.service_id is None or event.audience is None or view.service_id in event.audience


def _is_insider(view: View, row: Record) -> bool:
    """Whether the viewer may know why: the message's author, and the operator, who is shown codes and never texts."""
    return view.service_id is None or row["author_service_id"] in {None, view.service_id}


async def _view_sending(conn: Connection, view: View, row: Record, seen: Mapping[str, Any]) -> dict[str, Any]:
    """What was judged of a message that went out, and the calls of its provider. Others than its author are told when
    it was tried and how that ended (C4), not why.
    """
    may_know = _is_insider(view, row) or not seen.get("masked")
    judged = await lives.find_rulings(conn, row["id"]) if may_know else None
    calls = [
        {
            "attempt": call["attempt"],
            "at": call["began_at"],
            "took_ms": call["took_ms"],
            "requests": call["requests"],
            "outcome": call["outcome"],
            "code": call["code"] if may_know else None,
            "provider_code": call["provider_code"] if may_know else None,
        }
        for call in await lives.list_calls(conn, row["id"], MOST_CALLS)
    ]
    return {"rules": [tell(ruling) for ruling in judged or ()], "provider_calls": calls}


async def _view_statuses(conn: Connection, view: View, row: Record, seen: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was reported of an outbound message, in the order in which the hub heard it; codes to who may know why."""
    if row["status"] is None:
        return []
    may_know = _is_insider(view, row) or not seen.get("masked")
    first = {"status": "queued", "reported": "queued", "at": row["created_at"], "provider_time": None, "code": None}
    history = (await messages.list_statuses(conn, [row["id"]])).get(row["id"], [])
    return [*([first] if _is_own(row) else []), *(_status(entry, may_know=may_know) for entry in history)]


def _status(entry: Record, *, may_know: bool) -> dict[str, Any]:
    error = orjson.loads(entry["details"]).get("error") if may_know and entry["details"] else None
    code = (error.get("provider_code") or error.get("code")) if isinstance(error, Mapping) else None
    return {name: entry[name] for name in ("status", "reported", "at", "provider_time")} | {
        "code": str(code) if code is not None else None
    }


async def _view_links(conn: Connection, view: View, message_id: UUID, now: datetime) -> list[dict[str, Any]]:
    """Who clicked is for those who may know profiles; to others a message has no links (H5)."""
    if view.service_id is not None:
        service = await services.find_service(conn, view.service_id)
        if service is None or "profiles" not in service["scopes"]:
            return []
    items: list[dict[str, Any]] = (await report_message(conn, view.service_id, message_id, now))["items"]
    return items


def _gone(row: Record, seen: Mapping[str, Any], life: Mapping[str, Any]) -> list[dict[str, str]]:
    """What a life of this kind has and this one has no more, and why."""
    found = {}
    is_own = _is_own(row)
    if seen.get("erased"):
        found["content"] = "the customer was erased (rule H5): ids, order and times are left"
    if not life["events"] and not row["history"]:
        found["events"] = "the event log keeps its events no longer (PARTYLINE_EVENT_RETENTION_DAYS)"
    if any(each["outcome"] == "settled" for event in life["events"] for each in event["deliveries"]):
        found["deliveries"] = (
            "when some events were accepted is kept no longer (PARTYLINE_ATTEMPT_RETENTION_DAYS), or it was so long"
            " after they happened that it was not looked for: GET /v1/deliveries lists them by time"
        )
    if is_own and not life["rules"] and not seen.get("masked"):
        found["rules"] = "what the rules said is kept no longer, or the message is from before the hub noted it"
    if is_own and not life["provider_calls"] and row["status"] in {"sent", "delivered", "read", "failed"}:
        found["provider_calls"] = "calls of its provider are kept no longer, or it never came to one"
    return [{"part": part, "text": text} for part, text in found.items()]


# An event -------------------------------------------------------------------------------------------------------------


async def trace_event(conn: Connection, view: View, number: int, now: datetime) -> dict[str, Any]:
    """One event and where it went; with the life of the message it is about, where it is about one. Raises
    `NotFound`.
    """
    found = await event_lives.find_event(conn, number)
    if found is None or not await _may_see_event(conn, view, found[0]):
        raise _nothing(event_id(number))
    event, message_id = found
    life: dict[str, Any] = dict(_EMPTY)
    if message_id is not None and event.conversation_id is not None:
        life = await trace_message(conn, view, message_id, now)
    name = event_id(number)
    if all(each["event_id"] != name for each in life["events"]):
        life["events"] = [*life["events"], *await _view_events(conn, view, [event])]
        life["steps"] = steps(life)
    return life | {"kind": "event", "id": name, "event": await _show_event(conn, view, event)}


async def _may_see_event(conn: Connection, view: View, event: Event) -> bool:
    if view.service_id is None:
        return True
    rows = await subscriptions.list_viewers(conn, view.service_id, None)
    return any(row["channel_id"] == event.channel_id for row in rows) and _may_hear(view, event)


async def _show_event(conn: Connection, view: View, event: Event) -> dict[str, Any]:
    """As a webhook would carry it to the viewer; to the operator as it is shown to them anywhere."""
    if view.service_id is None:
        return {"type": event.type, "timestamp": event.at, "data": mask_event(event, view.links)}
    rows = await subscriptions.list_viewers(conn, view.service_id, None)
    viewer = next(viewer_of(row) for row in rows if row["channel_id"] == event.channel_id)
    policies = await visibility.read_policies(conn, {viewer.channel_id})
    shown: dict[str, Any] = orjson.loads(body(event, viewer, policies, view.links))
    return shown


# A conversation, a provider's id --------------------------------------------------------------------------------------


async def trace_conversation(conn: Connection, view: View, conversation_id: UUID) -> dict[str, Any]:
    """A conversation's latest messages, each of which can be traced. Raises `NotFound`."""
    talk = await _reach(conn, view, conversation_id)
    if talk is None:
        raise _nothing(public_id("cnv", conversation_id))
    (conversation,) = await view_conversations(conn, view.service_id, [talk])
    items, _ = await read_messages(conn, view, conversation_id, Span(None, talk["last_sequence"] + 1, _LATEST))
    told = [
        {"at": item["created_at"], "what": item["direction"], "text": f"{item['id']}: {_summary(item)}"}
        for item in reversed(items)
    ]
    return _EMPTY | {
        "kind": "conversation",
        "id": public_id("cnv", conversation_id),
        "conversation": conversation,
        "contact": conversation["contact"],
        "messages": items,
        "steps": told,
    }


def _summary(item: Mapping[str, Any]) -> str:
    state = f", {item['status']}" if item.get("status") else ""
    author = f" of {item['author']['name']}" if item.get("author") else ""
    return f"{item['type']} by {item['origin']}{author}{state}"


async def _trace_provider_id(conn: Connection, view: View, text: str, now: datetime) -> dict[str, Any]:
    """The message that a provider calls so. To a service it is one that it sees in full; to the operator the first of
    those that the number's channels have, and the others by their ids.
    """
    if not text or len(text) > _LONGEST or not text.isprintable() or text.startswith("erased:"):
        raise _nothing(text)
    for number, row in enumerate(rows := await lives.find_by_provider_id(conn, text, _SAME)):
        if not await _reach(conn, view, row["conversation_id"]):
            continue
        life = await trace_message(conn, view, row["id"], now)
        if view.service_id is not None and life["message"].get("masked"):
            continue
        others = rows[:number] + rows[number + 1 :] if view.service_id is None else []
        return life | {"also": [public_id("msg", other["id"]) for other in others]}
    if view.service_id is None and (found := await _not_a_message(conn, text)):
        return found
    raise _nothing(text)


async def _not_a_message(conn: Connection, text: str) -> dict[str, Any] | None:
    """What the hub has of a provider's id that no message has: an entry of the quarantine, statuses that came too
    early, or only that it was taken in: an edit, a reaction, a status.
    """
    keys = [key_of(provider, text) for provider in ("meta", "twilio")]
    reasons = [key_digest(f"{key}:{reason}") for key in keys for reason in QUARANTINED]
    entries = [quarantine_view(row) for row in await lives.find_quarantined(conn, reasons)]
    orphans = await lives.find_orphans(conn, text, _SAME)
    seen = await lives.find_keys(conn, [key_digest(key) for key in keys])
    told = [(row["at"], "taken_in", "an item with this id was taken in and is no message of its own") for row in seen]
    told += [(row["received_at"], "quarantine", f"into quarantine: {row['reason']}, {row['state']}") for row in entries]
    told += [
        (row["received_at"], "status", f"{row['reported']}, of a message the hub does not know") for row in orphans
    ]
    if not told:
        return None
    story = [{"at": at, "what": what, "text": words} for at, what, words in sorted(told)]
    return _EMPTY | {"kind": "provider_id", "id": text, "quarantine": entries, "steps": story}
