"""The adapter API: a service says who its customer is (rules I1 to I7)."""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, TypeVar
from uuid import UUID

import orjson
import structlog
from aiohttp import web
from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from hub.actions.idempotency import claim_idempotency
from hub.actions.identify_for_service import Identified, Said, identify_for_service
from hub.actions.roster import Caller
from hub.domain.errors import NotFound
from hub.domain.ids import parse_id
from hub.http.answers import identify as answers
from hub.http.auth import service
from hub.http.context import CONTEXT, Context
from hub.http.operations import operation
from hub.http.params import IDEMPOTENCY_KEY
from hub.http.problems import answer
from hub.http.schemas import Model, Name, clean, id_schema, read_json
from hub.store import outbox
from hub.store.pool import Connection, TryAgain

log = structlog.get_logger()

T = TypeVar("T")
_ATTEMPTS: Final = 5
_TRAIT: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_TRAIT_BYTES: Final = 2000


def _contact_id(value: object) -> object:
    try:
        return parse_id("con", value) if isinstance(value, str) else value
    except NotFound:
        raise ValueError(f"{value!r} is no contact's id") from None


def _traits(value: dict[str, Any]) -> dict[str, Any]:
    for name, said in value.items():
        if not _TRAIT.fullmatch(name):
            raise ValueError(
                f"{name!r} is no name of a trait: a letter, then up to 63 letters, digits, '_', '-' or '.'"
            )
        try:
            size = len(orjson.dumps(said))
        except TypeError:
            raise ValueError(f"{name} is nested too deep") from None
        if size > _TRAIT_BYTES:
            raise ValueError(f"{name} is over {_TRAIT_BYTES} bytes of JSON")
    return value


Text = Annotated[str, StringConstraints(min_length=1, max_length=320, strip_whitespace=True), BeforeValidator(clean)]
ContactId = Annotated[UUID, BeforeValidator(_contact_id), id_schema("con")]


class IdentifyIn(Model):
    """Whom a service speaks of, by what, and what it says of them."""

    email: Text | None = None
    phone: Text | None = None
    external_id: Name | None = None
    handle: Text | None = None
    contact_id: ContactId | None = None
    name: Name | None = None
    traits: Annotated[dict[str, Any], Field(max_length=50), AfterValidator(_traits)] = Field(default_factory=dict)
    consents: list[Literal["sms", "whatsapp", "email", "tracking"]] = Field(default_factory=list, max_length=4)
    proof: Literal["one_time_code"] | None = None

    def said(self) -> Said:
        """The same for the action."""
        traits = {n: None if value is None else orjson.dumps(value).decode() for n, value in self.traits.items()}
        return Said(
            self.email, self.phone, self.external_id, self.contact_id, self.handle, self.name, traits, self.consents,
            self.proof is not None,
        )  # fmt: skip


def add_routes(app: web.Application) -> None:
    """Put this path into the application."""
    app.router.add_post("/v1/identify", service(post_identify, "profiles"))


@operation(
    headers=(IDEMPOTENCY_KEY,),
    body=IdentifyIn,
    answers={200: answers.Identified | answers.Forgotten},
    codes=(
        "not_found",
        "invalid_handle",
        "handle_used",
        "invalid_address",
        "contact_erased",
        "external_id_taken",
        "verified_identities",
        "not_connected",
        "revoked_by_customer",
    ),
)
async def post_identify(request: web.Request, caller: Caller) -> web.Response:
    """Say who a customer is; repeated requests get the first answer (E6)."""
    context = request.app[CONTEXT]
    raw, body = await read_json(request)
    said, key = IdentifyIn.model_validate(body).said(), IDEMPOTENCY_KEY.find(request)

    async def take(conn: Connection) -> tuple[web.Response, Identified | None]:
        if key and (known := await claim_idempotency(conn, caller.service_id, request.path, key, raw)):
            first = web.Response(body=known.answer.encode(), status=known.status, content_type="application/json")
            return first, None
        done = await identify_for_service(
            conn, caller.service_id, said, context.phone_region, context.handles, datetime.now(UTC),
            mode=context.tracking.consent, auto_merge=context.auto_merge,
        )  # fmt: skip
        response = answer(done.view)
        if key:
            assert isinstance(response.body, bytes)
            await outbox.set_answer(conn, caller.service_id, request.path, key, 200, response.body.decode())
        return response, done

    response, done = await again(context, take)
    if done:
        context.publish(done.events)
        log.info("contact.identified", service=str(caller.service_id), rule=done.rule)
    return response


async def again(context: Context, take: Callable[[Connection], Awaitable[T]]) -> T:
    """Run a transaction, and run it again where the people it is about changed meanwhile. Raises `TryAgain` when they
    keep changing.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            async with context.database.transaction() as conn:
                return await take(conn)
        except TryAgain:
            continue
    async with context.database.transaction() as conn:
        return await take(conn)
