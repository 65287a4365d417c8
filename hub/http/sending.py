"""The adapter API: messages to customers, and what became of them (rules E1 to E11)."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import structlog
from aiohttp import web

from hub.actions.cancel import cancel_for_operator, cancel_message, find_to_cancel
from hub.actions.compose import resolve_kind
from hub.actions.idempotency import claim_idempotency
from hub.actions.look import view_messages
from hub.actions.open_conversation import open_conversation
from hub.actions.register import OPERATOR
from hub.actions.roster import Caller
from hub.actions.send import Accepted, Author, SendRequest, send
from hub.actions.track_links import list_links
from hub.domain.addresses import is_e164
from hub.domain.errors import NotFound, Refusal
from hub.domain.ids import parse_id, public_id
from hub.http.answers import messages as answers
from hub.http.auth import operator, require, service
from hub.http.context import CONTEXT, Context
from hub.http.message_schemas import FirstMessageIn, MessageIn
from hub.http.operations import operation
from hub.http.params import CONVERSATION, IDEMPOTENCY_KEY, MESSAGE, integer
from hub.http.problems import answer
from hub.http.schemas import read_json
from hub.store import conversations, messages, outbox
from hub.store.pool import BadData, Connection, TryAgain
from providers.base import Customer

log = structlog.get_logger()

MAX_WAIT: Final = 30
"""Seconds `?wait=` may hold a request."""
_WAIT: Final = integer("wait", "seconds to wait for the provider's answer (rule E6)", default=0, high=MAX_WAIT)
_REFUSALS: Final = (
    "not_connected", "not_parent", "number_shared", "no_consent", "reply_window_closed", "no_sender", "no_address",
    "contact_erased", "message_not_sent", "unknown_message", "unknown_media", "unsupported_on_medium", "text_too_long",
    "media_type_unsupported", "media_too_large", "template_mismatch", "template_unavailable", "looks_automated",
    "links_off", "link_target_invalid", "link_target_not_allowed", "link_not_trackable", "idempotency_mismatch",
)  # fmt: skip
"""What a message may be refused for, once it can be read."""
_SCOPES: Final = "with the scope `reply` for what agents write, `automate` for all other origins"
Place = Callable[[Connection, datetime], Awaitable[UUID]]
"""Finds or makes the conversation that a message goes into."""


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    app.router.add_post("/v1/conversations/{id}/messages", service(post_message))
    app.router.add_post("/v1/messages", service(post_first_message))
    app.router.add_get("/v1/messages/{id}", service(get_message, "read"))
    app.router.add_delete("/v1/messages/{id}", service(delete_message))
    app.router.add_delete("/v1/admin/messages/{id}", operator(delete_any_message))


@operation(path=(MESSAGE,), answers={200: answers.OneMessage})
async def get_message(request: web.Request, caller: Caller) -> web.Response:
    """One message, with a time per status."""
    context, message_id = request.app[CONTEXT], MESSAGE.read(request)
    async with context.database.transaction() as conn:
        view = await _find_message(conn, context, message_id, caller)
    return answer(view)


async def _find_message(conn: Connection, context: Context, message_id: UUID, caller: Caller) -> dict[str, Any]:
    row = await messages.find_message(conn, message_id)
    if row is None or not await conversations.find_in_reach(conn, row["conversation_id"], caller.service_id):
        raise NotFound(
            "There is no such message on a channel this service is connected to (rule A4): take an id of a timeline."
        )
    view = (await view_messages(conn, context.view(caller.service_id), [row]))[0]
    is_author = row["author_service_id"] == caller.service_id
    links = await list_links(conn, message_id) if is_author else []
    more = {"links": links} if links else {}
    return {**view, **more, "conversation_id": public_id("cnv", row["conversation_id"])}


@operation(
    path=(CONVERSATION,),
    query=(_WAIT,),
    headers=(IDEMPOTENCY_KEY,),
    body=MessageIn,
    answers={202: answers.Accepted},
    codes=_REFUSALS,
    scopes=_SCOPES,
)
async def post_message(request: web.Request, caller: Caller) -> web.Response:
    """Accept a message into a conversation: 202 with its id; the outcome comes as events (E6)."""
    raw, body = await read_json(request)
    conversation_id = CONVERSATION.read(request)
    return await _post(request, caller, raw, MessageIn.model_validate(body), lambda *_: _known(conversation_id))


async def _known(conversation_id: UUID) -> UUID:
    return conversation_id


@operation(
    query=(_WAIT,),
    headers=(IDEMPOTENCY_KEY,),
    body=FirstMessageIn,
    answers={202: answers.Accepted},
    codes=(*_REFUSALS, "not_found"),
    scopes=_SCOPES,
)
async def post_first_message(request: web.Request, caller: Caller) -> web.Response:
    """The same to an address: the conversation is found or made."""
    raw, body = await read_json(request)
    wanted = FirstMessageIn.model_validate(body)
    is_phone = is_e164(wanted.to)
    to = Customer(phone=wanted.to if is_phone else None, user_id=None if is_phone else wanted.to)
    limits = request.app[CONTEXT].limits

    async def opened(conn: Connection, now: datetime) -> UUID:
        is_agent = wanted.origin == "agent"
        return await open_conversation(
            conn, caller.service_id, wanted.from_, wanted.medium, to, limits, now, is_agent=is_agent
        )

    return await _post(request, caller, raw, wanted, opened)


async def _post(
    request: web.Request, caller: Caller, raw: bytes, wanted: MessageIn, place: Place
) -> web.Response:  # fmt: skip
    """Accept a message into the conversation that `place` gives; repeated requests get the first answer (E6)."""
    context = request.app[CONTEXT]
    require(caller, "reply" if wanted.origin == "agent" else "automate")
    wait, key = _WAIT.read(request), IDEMPOTENCY_KEY.find(request)
    route = request.path
    async with context.database.transaction() as conn:
        if key:
            known = await claim_idempotency(conn, caller.service_id, route, key, raw)
            if known:
                return web.Response(body=known.answer.encode(), status=known.status, content_type="application/json")
        now = datetime.now(UTC)
        conversation_id = await place(conn, now)
        accepted = await send(
            conn,
            Author(caller.service_id, caller.name),
            conversation_id,
            await _request(conn, caller, wanted, is_keyed=key is not None),
            now,
            context.capabilities,
            context.limits,
            context.tracking,
        )
        view = {**accepted.message, "conversation_id": public_id("cnv", conversation_id)}
        if accepted.links:
            view["links"] = accepted.links
        response = answer({"message": view, "warnings": accepted.warnings}, status=202)
        if key:
            assert isinstance(response.body, bytes)
            await outbox.set_answer(conn, caller.service_id, route, key, 202, response.body.decode())
    context.publish(accepted.events)
    context.wake_sender()
    if not wait or accepted.is_for_later:
        return response
    try:
        return await _settled(request, caller, accepted, wait, key)
    except (Refusal, TryAgain, BadData) as error:  # it is accepted all the same, and must not be sent again
        log.warning("message.not_awaited", message=accepted.message["id"], error=type(error).__name__)
        return response


@operation(
    path=(MESSAGE,),
    answers={200: answers.OneMessage},
    codes=("not_author", "not_cancellable"),
    scopes=_SCOPES,
)
async def delete_message(request: web.Request, caller: Caller) -> web.Response:
    """Cancel a message of one's own that is still queued (E11)."""
    context, message_id = request.app[CONTEXT], MESSAGE.read(request)
    async with context.database.transaction() as conn:
        row = await find_to_cancel(conn, message_id, caller.service_id)
        require(caller, "reply" if row["origin"] == "agent" else "automate")
        events = await cancel_message(conn, row, datetime.now(UTC))
        view = await _find_message(conn, context, message_id, caller)
    context.publish(events)
    return answer(view)


@operation(path=(MESSAGE,), answers={200: answers.OneMessage}, codes=("not_cancellable",))
async def delete_any_message(request: web.Request) -> web.Response:
    """The same for the operator, whoever wrote it."""
    context, message_id = request.app[CONTEXT], MESSAGE.read(request)
    async with context.database.transaction() as conn:
        events = await cancel_for_operator(conn, message_id, OPERATOR, datetime.now(UTC))
        row = await messages.find_message(conn, message_id)
        assert row is not None
        (view,) = await view_messages(conn, context.view(None), [row])
    context.publish(events)
    return answer({**view, "conversation_id": public_id("cnv", row["conversation_id"])})


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


async def _request(conn: Connection, caller: Caller, wanted: MessageIn, *, is_keyed: bool) -> SendRequest:
    kind, content = wanted.content()
    return SendRequest(
        origin=wanted.origin,
        type=await resolve_kind(conn, caller.service_id, kind, content),
        content=content,
        agent_id=wanted.agent.id if wanted.agent else None,
        agent_name=wanted.agent.name if wanted.agent else None,
        parent_epoch=wanted.parent_epoch,
        campaign=wanted.campaign,
        seen_sequence=wanted.seen_sequence,
        send_at=wanted.send_at,
        links=wanted.link_wishes(),
        is_keyed=is_keyed,
    )


async def _wait(request: web.Request, message_id: UUID, caller: Caller, seconds: int) -> Mapping[str, Any]:
    """Wait for the provider's answer, at most so long (E6)."""
    context, deadline, pause = request.app[CONTEXT], time.monotonic() + seconds, 0.02
    while True:
        async with context.database.transaction() as conn:
            view = await _find_message(conn, context, message_id, caller)
        settled = view["provider_id"] is not None or view["status"] not in {"queued", "sending"}
        if settled or time.monotonic() >= deadline or context.is_stopping.is_set():
            return view
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.25)
