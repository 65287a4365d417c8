"""The adapter API: telling a customer that their message was read, or is being answered (rule E10)."""

from dataclasses import dataclass
from typing import Annotated, Final
from uuid import UUID

from aiohttp import web
from pydantic import Field

from hub.actions.look import out_of_reach
from hub.actions.roster import Caller
from hub.domain.errors import Conflict
from hub.domain.ids import public_id
from hub.domain.kinds import unsupported
from hub.http.answers.handling import Marked
from hub.http.auth import service
from hub.http.context import CONTEXT, Context
from hub.http.operations import Body, operation
from hub.http.params import CONVERSATION
from hub.http.problems import answer
from hub.http.provider_calls import asking
from hub.http.schemas import Model, read_optional
from hub.store import conversations, numbers, read_marks
from hub.store.pool import Connection
from providers.base import ReadMark

_PATIENCE: Final = 15.0
"""Seconds a provider has to take a read mark."""


class ReadIn(Model):
    """With `typing` the customer also sees that an answer is being written."""

    typing: Annotated[bool, Field(strict=True)] = False


@dataclass(frozen=True, slots=True)
class _Target:
    provider: str
    message: str
    mark: ReadMark


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    app.router.add_post("/v1/conversations/{id}/read", service(mark_read, "reply"))


@operation(
    path=(CONVERSATION,),
    body=Body(ReadIn, is_optional=True),
    answers={200: Marked},
    codes=("no_sender", "nothing_to_mark", "unsupported_on_medium", "provider_refused", "provider_unavailable"),
)
async def mark_read(request: web.Request, caller: Caller) -> web.Response:
    """Mark the customer's latest message as read at the provider. No event tells of it."""
    context = request.app[CONTEXT]
    wanted = ReadIn.model_validate(await read_optional(request))
    async with context.database.transaction() as conn:
        target = await _find_target(conn, context, CONVERSATION.read(request), caller, is_typing=wanted.typing)
    async with asking(target.provider, "mark the message as read", _PATIENCE):
        await context.providers[target.provider].mark_read(target.mark)
    return answer({"message_id": target.message, "typing": wanted.typing})


async def _find_target(
    conn: Connection, context: Context, conversation_id: UUID, caller: Caller, *, is_typing: bool
) -> _Target:
    row = await conversations.find_in_reach(conn, conversation_id, caller.service_id)
    if row is None:
        raise out_of_reach()
    sender = await numbers.find_sender(conn, row["number_id"], row["medium"])
    if sender is None:
        raise Conflict("the number has no active sender for this medium", code="no_sender")
    _check(context, sender["provider"], row["medium"], is_typing=is_typing)
    latest = await read_marks.find_latest(conn, row["id"], sender["provider"])
    if latest is None:
        raise Conflict(
            "the customer has written nothing here that the provider could mark: wait for a message (rule E10).",
            code="nothing_to_mark",
        )
    mark = ReadMark(row["medium"], sender["external_id"], latest["provider_id"], is_typing=is_typing)
    return _Target(sender["provider"], public_id("msg", latest["id"]), mark)


def _check(context: Context, provider: str, medium: str, *, is_typing: bool) -> None:
    can = next((can for name, can in context.capabilities.get(provider, {}).items() if name == medium), frozenset())
    if is_typing and "typing" not in can:
        raise unsupported("typing", medium, provider, "leave it out")
    if not is_typing and "read" not in can:
        advice = "it marks as read only together with typing: send typing: true" if "typing" in can else "leave it out"
        raise unsupported("read", medium, provider, advice)
