"""The adapter API: who handles a conversation: pick up, release, be there, pass on (rules D1, D2, D4)."""

from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from aiohttp import web
from pydantic import BeforeValidator, StringConstraints

from hub.actions.collide import Actor
from hub.actions.pass_on import pass_on
from hub.actions.pick_up import pick_up, release
from hub.actions.presence import note_presence
from hub.actions.roster import Caller
from hub.domain.errors import NotFound
from hub.domain.ids import parse_id
from hub.http.answers import handling as answers
from hub.http.auth import service
from hub.http.context import CONTEXT
from hub.http.message_schemas import AgentIn
from hub.http.operations import Body, operation
from hub.http.params import CONVERSATION
from hub.http.problems import answer
from hub.http.schemas import Model, clean, read_json, read_optional


def _service_id(value: object) -> object:
    try:
        return parse_id("svc", value) if isinstance(value, str) else value
    except NotFound:
        raise ValueError(f"{value!r} is no service's id") from None


class PickupIn(Model):
    """Who picks up."""

    agent: AgentIn


class ReleaseIn(Model):
    """Whose pick-up is released; nobody named: whoever holds it for the service."""

    agent: AgentIn | None = None


class PresenceIn(Model):
    """Who is there, and what they do."""

    agent: AgentIn
    state: Literal["viewing", "typing", "left"]


class PassIn(Model):
    """To whom a conversation is passed."""

    to: Annotated[UUID, BeforeValidator(_service_id)]
    note: Annotated[str, BeforeValidator(clean), StringConstraints(max_length=4096)] | None = None
    agent: AgentIn | None = None


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    conversation = "/v1/conversations/{id}"
    app.router.add_post(f"{conversation}/pickup", service(post_pickup, "reply"))
    app.router.add_delete(f"{conversation}/pickup", service(delete_pickup, "reply"))
    app.router.add_post(f"{conversation}/presence", service(post_presence, "reply"))
    app.router.add_post(f"{conversation}/pass", service(post_pass, "reply"))


@operation(path=(CONVERSATION,), body=PickupIn, answers={200: answers.PickedUp})
async def post_pickup(request: web.Request, caller: Caller) -> web.Response:
    """Pick a conversation up, or go on holding it; the answer says who else is at it (D2)."""
    context = request.app[CONTEXT]
    wanted = PickupIn.model_validate((await read_json(request))[1])
    conversation_id, actor = CONVERSATION.read(request), _actor(caller, wanted.agent)
    async with context.database.transaction() as conn:
        done = await pick_up(conn, actor, conversation_id, datetime.now(UTC))
    context.publish(done.events)
    return answer({"picked_up_by": done.pickup, "warnings": done.warnings})


@operation(
    path=(CONVERSATION,),
    body=Body(ReleaseIn, is_optional=True),
    answers={200: answers.Released},
)
async def delete_pickup(request: web.Request, caller: Caller) -> web.Response:
    """Release what this service, or just this agent of it, holds; nothing to release is no error."""
    context = request.app[CONTEXT]
    wanted = ReleaseIn.model_validate(await read_optional(request))
    agent_id = wanted.agent.id if wanted.agent else None
    async with context.database.transaction() as conn:
        done = await release(conn, caller.service_id, CONVERSATION.read(request), agent_id, datetime.now(UTC))
    context.publish(done.events)
    return answer({"released": done.is_released, "picked_up_by": done.holder})


@operation(path=(CONVERSATION,), body=PresenceIn, answers={200: answers.Present})
async def post_presence(request: web.Request, caller: Caller) -> web.Response:
    """Say that an agent looks at a conversation, types, or has left it; the answer says who else is there."""
    wanted = PresenceIn.model_validate((await read_json(request))[1])
    conversation_id, actor = CONVERSATION.read(request), _actor(caller, wanted.agent)
    async with request.app[CONTEXT].database.transaction() as conn:
        noted = await note_presence(conn, actor, conversation_id, wanted.state)
    return answer({"state": wanted.state, "expires_at": noted.expires_at, "presence": noted.others})


@operation(path=(CONVERSATION,), body=PassIn, answers={200: answers.Passed}, codes=("not_connected",))
async def post_pass(request: web.Request, caller: Caller) -> web.Response:
    """Pass a conversation to another service of the channel (D4)."""
    context = request.app[CONTEXT]
    wanted = PassIn.model_validate((await read_json(request))[1])
    conversation_id, actor = CONVERSATION.read(request), _actor(caller, wanted.agent)
    async with context.database.transaction() as conn:
        passed = await pass_on(conn, actor, conversation_id, wanted.to, wanted.note, datetime.now(UTC))
    context.publish(passed.events)
    return answer({"waiting_for": passed.waiting_for})


def _actor(caller: Caller, agent: AgentIn | None) -> Actor:
    return Actor(caller.service_id, caller.name, agent.id if agent else None, agent.name if agent else None)
