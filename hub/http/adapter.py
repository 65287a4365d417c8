"""The adapter API: what a service's backend calls."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import structlog
from aiohttp import web

from hub.actions import describe, pausing, roster
from hub.actions.delivery_view import view_deliveries
from hub.actions.look import View, view_messages
from hub.actions.roster import Caller
from hub.actions.send import Accepted, Author, SendRequest, claim_idempotency, send
from hub.domain import window
from hub.domain.errors import Invalid, NotFound, Refusal
from hub.domain.events import Event
from hub.domain.ids import parse_id, public_id
from hub.http.auth import require, service
from hub.http.context import CONTEXT
from hub.http.problems import answer
from hub.http.schemas import ConnectionIn, MessageIn, ResumeIn, limit_of, number_of, read_json, read_optional
from hub.store import contacts, conversations, messages, numbers, outbox, subscriptions
from hub.store.pool import BadData, Connection, Record, TryAgain
from hub.store.subscriptions import SubscriptionSettings

log = structlog.get_logger()

MAX_WAIT: Final = 30
"""Seconds `?wait=` may hold a request."""
_MAX_KEY: Final = 255
_NONE: Final = UUID(int=0)


def add_routes(app: web.Application) -> None:
    """Put the API's paths into the application."""
    number = "/v1/numbers/{e164}"
    conversation = "/v1/conversations/{id}"
    app.router.add_get("/v1/numbers", service(list_numbers, "read"))
    app.router.add_get(number, service(get_number, "read"))
    app.router.add_put(f"{number}/connection", service(connect))
    app.router.add_delete(f"{number}/connection", service(disconnect))
    app.router.add_post(f"{number}/connection/rotate-secret", service(rotate_secret))
    app.router.add_post(f"{number}/connection/pause", service(pause))
    app.router.add_post(f"{number}/connection/resume", service(resume))
    app.router.add_get("/v1/conversations", service(list_conversations, "read"))
    app.router.add_get(conversation, service(get_conversation, "read"))
    app.router.add_get(f"{conversation}/messages", service(list_messages, "read"))
    app.router.add_post(f"{conversation}/messages", service(post_message))
    app.router.add_get("/v1/messages/{id}", service(get_message, "read"))


# Numbers and connections --------------------------------------------------------------------------------------------


async def connect(request: web.Request, caller: Caller) -> web.Response:
    """Connect to a number, or update what was asked for."""
    context = request.app[CONTEXT]
    wanted = ConnectionIn.model_validate(await read_optional(request))
    if wanted.endpoint_url is not None:
        context.endpoints.check_url(wanted.endpoint_url)
    async with context.database.transaction() as conn:
        connected = await roster.connect(
            conn,
            context.sealer,
            caller,
            request.match_info["e164"],
            _settings(wanted),
            datetime.now(UTC),
            start_at=wanted.start_at,
        )
    context.publish(connected.events)
    context.refresh()
    view = roster.connection_view(connected.roster, caller.service_id)
    if connected.signing_secret:
        view["signing_secret"] = connected.signing_secret
    return answer(view)


def _settings(wanted: ConnectionIn) -> SubscriptionSettings:
    named = wanted.share if isinstance(wanted.share, list) else []
    return SubscriptionSettings(
        endpoint_url=wanted.endpoint_url,
        event_types=wanted.event_types,
        display=wanted.display,
        share=wanted.share if isinstance(wanted.share, str) else "named",
        share_with=[parse_id("svc", name) for name in named],
        on_exhausted=wanted.on_exhausted,
    )


async def disconnect(request: web.Request, caller: Caller) -> web.Response:
    """Leave a number."""
    context = request.app[CONTEXT]
    async with context.database.transaction() as conn:
        left = await roster.disconnect(
            conn, caller.service_id, request.match_info["e164"], caller.actor, datetime.now(UTC)
        )
    context.publish(left.events)
    context.refresh()
    return web.Response(status=204)


async def rotate_secret(request: web.Request, caller: Caller) -> web.Response:
    """A new signing secret; the old one overlaps."""
    context = request.app[CONTEXT]
    async with context.database.transaction() as conn:
        secret = await roster.rotate_secret(
            conn, context.sealer, caller.service_id, request.match_info["e164"], context.secret_overlap
        )
    context.refresh()
    return answer({"signing_secret": secret, "overlap_seconds": context.secret_overlap})


async def pause(request: web.Request, caller: Caller) -> web.Response:
    """Let the deliveries of a connection wait."""
    context = request.app[CONTEXT]
    async with context.database.transaction() as conn:
        _, own = await roster.lock_connection(conn, request.match_info["e164"], caller.service_id)
        events = await pausing.pause(conn, own["id"], "asked", datetime.now(UTC))
    return await _changed(request, caller, events)


async def resume(request: web.Request, caller: Caller) -> web.Response:
    """Let them go on."""
    context = request.app[CONTEXT]
    mode = ResumeIn.model_validate(await read_optional(request)).mode
    async with context.database.transaction() as conn:
        _, own = await roster.lock_connection(conn, request.match_info["e164"], caller.service_id)
        events = await pausing.resume(conn, own["id"], mode, caller.actor, datetime.now(UTC))
    return await _changed(request, caller, events)


async def _changed(request: web.Request, caller: Caller, events: Sequence[Event]) -> web.Response:
    """Hand the events on; answers with the connection as it is now."""
    context = request.app[CONTEXT]
    context.publish(events)
    context.refresh()
    async with context.database.transaction() as conn:
        _, members = await roster.find_roster(conn, request.match_info["e164"], caller.service_id)
    return answer(roster.connection_view(members, caller.service_id))


async def list_numbers(request: web.Request, caller: Caller) -> web.Response:
    """The numbers of the organisation, by age."""
    after, limit = number_of(request, "after", default=0), limit_of(request)
    async with request.app[CONTEXT].database.transaction() as conn:
        rows = await numbers.list_numbers(conn, after, limit)
        items = [await _number_view(conn, row, caller) for row in rows]
    return answer({"items": items, "next": str(rows[-1]["id"]) if len(rows) == limit else None})


async def get_number(request: web.Request, caller: Caller) -> web.Response:
    """One number: senders, and for those connected its channel, parent and subscribers (A9)."""
    async with request.app[CONTEXT].database.transaction() as conn:
        row = await numbers.find_number(conn, request.match_info["e164"])
        if row is None:
            raise NotFound("this number is not registered with the hub")
        view = await _number_view(conn, row, caller)
        own = await subscriptions.find_subscription(conn, row["id"], caller.service_id)
        for seen in await view_deliveries(conn, [own["id"]]) if own else ():
            view["delivery"] = seen["delivery"]
    return answer(view)


async def _number_view(conn: Connection, number: Record, caller: Caller) -> dict[str, Any]:
    senders = await numbers.list_senders(conn, [number["id"]])
    view: dict[str, Any] = {
        "e164": number["e164"],
        "senders": [{"medium": s["medium"], "provider": s["provider"], "is_active": s["is_active"]} for s in senders],
        "role": None,
        "channel_id": None,
    }
    if await subscriptions.find_subscription(conn, number["id"], caller.service_id):
        _, members = await roster.find_roster(conn, number["e164"], caller.service_id)
        view |= roster.connection_view(members, caller.service_id)
    return view


# Conversations ------------------------------------------------------------------------------------------------------


async def list_conversations(request: web.Request, caller: Caller) -> web.Response:
    """Conversations of the channels this service is on, by age."""
    limit = limit_of(request)
    after = parse_id("cnv", request.query["after"]) if "after" in request.query else _NONE
    async with request.app[CONTEXT].database.transaction() as conn:
        rows = await conversations.list_in_reach(conn, caller.service_id, after, limit)
        items = [await _conversation_view(conn, row) for row in rows]
    return answer({"items": items, "next": items[-1]["id"] if len(rows) == limit else None})


async def get_conversation(request: web.Request, caller: Caller) -> web.Response:
    """One conversation."""
    async with request.app[CONTEXT].database.transaction() as conn:
        return answer(await _conversation_view(conn, await _reach(conn, request, caller)))


async def _reach(conn: Connection, request: web.Request, caller: Caller) -> Record:
    conversation_id = parse_id("cnv", request.match_info["id"])
    row = await conversations.find_in_reach(conn, conversation_id, caller.service_id)
    if row is None:
        raise NotFound("there is no such conversation on a channel this service is connected to")
    return row


async def _conversation_view(conn: Connection, row: Record) -> dict[str, Any]:
    people = await contacts.list_contacts(conn, [row["contact_id"]])
    last = await conversations.find_last_customer_at(conn, row["contact_id"], row["number_id"], row["medium"])
    return {
        "id": public_id("cnv", row["id"]),
        "channel_id": public_id("chn", row["channel_id"]),
        "number": row["e164"],
        "medium": row["medium"],
        "contact": describe.contact(people[row["contact_id"]]),
        "last_sequence": row["last_sequence"],
        "last_customer_at": row["last_customer_at"],
        "reply_window_expires_at": window.expires_at(row["medium"], last),
        "picked_up_by": None,
        "created_at": row["created_at"],
    }


async def list_messages(request: web.Request, caller: Caller) -> web.Response:
    """The timeline: newest first (`before=`), or from a sequence number on (`after=`), masked per rule C."""
    limit = limit_of(request)
    async with request.app[CONTEXT].database.transaction() as conn:
        reached = await _reach(conn, request, caller)
        if "after" in request.query:
            rows = await messages.list_after(conn, reached["id"], number_of(request, "after", default=0), limit)
        else:
            rows = await messages.list_before(conn, reached["id"], number_of(request, "before", default=2**62), limit)
        items = await view_messages(conn, View(caller.service_id, reached["channel_id"]), rows)
    return answer({"items": items, "next": rows[-1]["sequence"] if len(rows) == limit else None})


async def get_message(request: web.Request, caller: Caller) -> web.Response:
    """One message, with a time per status."""
    message_id = parse_id("msg", request.match_info["id"])
    async with request.app[CONTEXT].database.transaction() as conn:
        view = await _find_message(conn, message_id, caller)
    return answer(view)


async def _find_message(conn: Connection, message_id: UUID, caller: Caller) -> dict[str, Any]:
    row = await messages.find_message(conn, message_id)
    if row is None or not await conversations.find_in_reach(conn, row["conversation_id"], caller.service_id):
        raise NotFound("there is no such message on a channel this service is connected to")
    view = (await view_messages(conn, View(caller.service_id, row["channel_id"]), [row]))[0]
    return {**view, "conversation_id": public_id("cnv", row["conversation_id"])}


# Sending ------------------------------------------------------------------------------------------------------------


async def post_message(request: web.Request, caller: Caller) -> web.Response:
    """Accept a message: 202 with its id; the outcome comes as events (E6)."""
    context = request.app[CONTEXT]
    raw, body = await read_json(request)
    wanted = MessageIn.model_validate(body)
    require(caller, "reply" if wanted.origin == "agent" else "automate")
    wait = number_of(request, "wait", default=0, high=MAX_WAIT)
    conversation_id = parse_id("cnv", request.match_info["id"])
    key = _idempotency_key(request)
    route = request.path
    async with context.database.transaction() as conn:
        if key:
            known = await claim_idempotency(conn, caller.service_id, route, key, raw)
            if known:
                return web.Response(body=known.answer.encode(), status=known.status, content_type="application/json")
        accepted = await send(
            conn, Author(caller.service_id, caller.name), conversation_id, _request(wanted), datetime.now(UTC)
        )
        response = answer({"message": accepted.message, "warnings": accepted.warnings}, status=202)
        if key:
            assert isinstance(response.body, bytes)
            await outbox.set_answer(conn, caller.service_id, route, key, 202, response.body.decode())
    context.publish(accepted.events)
    context.wake_sender()
    if not wait:
        return response
    try:
        return await _settled(request, caller, accepted, wait, key)
    except (Refusal, TryAgain, BadData) as error:  # it is accepted all the same, and must not be sent again
        log.warning("message.not_awaited", message=accepted.message["id"], error=type(error).__name__)
        return response


async def _settled(
    request: web.Request, caller: Caller, accepted: Accepted, seconds: int, key: str | None
) -> web.Response:
    """The answer after the provider's, kept for repetitions of the request."""
    view = await _wait(request, parse_id("msg", accepted.message["id"]), caller, seconds)
    response = answer({"message": view, "warnings": accepted.warnings}, status=202)
    if key:
        assert isinstance(response.body, bytes)
        async with request.app[CONTEXT].database.transaction() as conn:
            await outbox.set_answer(conn, caller.service_id, request.path, key, 202, response.body.decode())
    return response


def _request(wanted: MessageIn) -> SendRequest:
    content: dict[str, Any] = {"text": wanted.text}
    if wanted.reply_to:
        content["reply_to"] = {"provider_id": wanted.reply_to}
    return SendRequest(
        origin=wanted.origin,
        type=wanted.type,
        content=content,
        agent_id=wanted.agent.id if wanted.agent else None,
        agent_name=wanted.agent.name if wanted.agent else None,
        parent_epoch=wanted.parent_epoch,
    )


def _idempotency_key(request: web.Request) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (key.isascii() and key.isprintable() and 0 < len(key) <= _MAX_KEY):
        raise Invalid(f"an Idempotency-Key is 1 to {_MAX_KEY} printable ASCII characters")
    return key


async def _wait(request: web.Request, message_id: UUID, caller: Caller, seconds: int) -> Mapping[str, Any]:
    """Wait for the provider's answer, at most so long (E6)."""
    context, deadline, pause = request.app[CONTEXT], time.monotonic() + seconds, 0.02
    while True:
        async with context.database.transaction() as conn:
            view = await _find_message(conn, message_id, caller)
        settled = view["provider_id"] is not None or view["status"] not in {"queued", "sending"}
        if settled or time.monotonic() >= deadline or context.is_stopping.is_set():
            return view
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.25)
