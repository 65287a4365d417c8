"""What happened to one message, over the API: for the operator, and for a service as far as it may see (rule C1)."""

from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from hub.actions.roster import Caller
from hub.actions.trace import trace
from hub.domain.errors import Invalid
from hub.http.answers.trace import Trace
from hub.http.auth import operator, service
from hub.http.context import CONTEXT
from hub.http.operations import operation
from hub.http.params import word
from hub.http.problems import answer

_ID: Final = word(
    "id", "a message, an event, a conversation, or a provider's id of a message", is_required=True, pattern=r"\S"
)


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    app.router.add_get("/v1/trace", service(get_trace, "read"))
    app.router.add_get("/v1/admin/trace", operator(get_any_trace))


@operation(query=(_ID,), answers={200: Trace}, codes=("not_found",))
async def get_trace(request: web.Request, caller: Caller) -> web.Response:
    """What happened to a message, an event or a conversation's latest messages; of deliveries the service's own."""
    context = request.app[CONTEXT]
    async with context.database.reading() as conn:
        return answer(await trace(conn, context.view(caller.service_id), _wanted(request), datetime.now(UTC)))


@operation(query=(_ID,), answers={200: Trace}, codes=("not_found",))
async def get_any_trace(request: web.Request) -> web.Response:
    """What happened to any message or event, masked where a service wrote, with the deliveries to all."""
    context = request.app[CONTEXT]
    async with context.database.reading() as conn:
        return answer(await trace(conn, context.view(None), _wanted(request), datetime.now(UTC)))


def _wanted(request: web.Request) -> str:
    """The `id` in the query. Raises `Invalid`."""
    text = (_ID.find(request) or "").strip()
    if not text:
        raise Invalid(
            "id is what is to be traced: a message, an event, a conversation, or a provider's id of a message"
        )
    return text
