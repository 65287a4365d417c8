"""The ledger of consent over HTTP: for services, and for the operator, who may lift what was revoked (rule E5)."""

from datetime import UTC, datetime
from typing import Annotated, Final, Literal
from uuid import UUID

from aiohttp import web
from pydantic import BeforeValidator, StringConstraints

from hub.actions.consents import ConsentRequest, set_consent, view_consent
from hub.actions.roster import Caller
from hub.domain.addresses import Address, is_e164, is_user_id
from hub.domain.consent import CONSENT_MEDIA, MESSAGE_MEDIA
from hub.domain.declared import parse_email
from hub.domain.errors import Invalid, NotFound
from hub.http.auth import operator, require, service
from hub.http.context import CONTEXT
from hub.http.problems import answer
from hub.http.schemas import Model, clean, phone_of, read_json

_WRITES: Final = frozenset({"reply", "automate"})


class ConsentIn(Model):
    """What a customer agreed to, or does not want any more, and how that can be proved."""

    status: Literal["granted", "revoked"]
    evidence: (
        Annotated[str, StringConstraints(min_length=1, max_length=2000, strip_whitespace=True), BeforeValidator(clean)]
        | None
    ) = None


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    path = "consents/{medium}/{address}"
    app.router.add_get(f"/v1/{path}", service(get_consent, "read"))
    app.router.add_put(f"/v1/{path}", service(put_consent))
    app.router.add_get(f"/v1/admin/{path}", operator(get_any_consent))
    app.router.add_put(f"/v1/admin/{path}", operator(put_any_consent))


async def get_consent(request: web.Request, caller: Caller) -> web.Response:
    """What holds for a customer, and why."""
    return await _get(request, caller.service_id)


async def put_consent(request: web.Request, caller: Caller) -> web.Response:
    """Note what a customer said to a service."""
    writes = _WRITES if request.match_info["medium"] in MESSAGE_MEDIA else _WRITES | {"profiles"}
    if not caller.scopes & writes:
        require(caller, "reply")
    return await _put(request, caller.service_id)


async def get_any_consent(request: web.Request) -> web.Response:
    """The same for the operator, with all evidence."""
    return await _get(request, None)


async def put_any_consent(request: web.Request) -> web.Response:
    """The same for the operator, who may lift a revocation."""
    return await _put(request, None)


async def _get(request: web.Request, service_id: UUID | None) -> web.Response:
    async with request.app[CONTEXT].database.transaction() as conn:
        return answer(await view_consent(conn, _asked(request, service_id)))


async def _put(request: web.Request, service_id: UUID | None) -> web.Response:
    context, asked = request.app[CONTEXT], _asked(request, service_id)
    wanted = ConsentIn.model_validate((await read_json(request))[1])
    async with context.database.transaction() as conn:
        changed = await set_consent(conn, asked, wanted.status, wanted.evidence, datetime.now(UTC))
    context.publish(changed.events)
    return answer(changed.view)


def _asked(request: web.Request, service_id: UUID | None) -> ConsentRequest:
    medium, text = request.match_info["medium"], request.match_info["address"]
    if medium not in CONSENT_MEDIA:
        raise NotFound("there is consent for 'whatsapp', 'sms', 'email' and 'tracking' only (rule E5)")
    e164 = phone_of(request, "number")
    if e164 is not None and medium not in MESSAGE_MEDIA:
        raise Invalid(f"consent for {medium!r} is not of one number (rule E5): leave 'number' out")
    return ConsentRequest(medium, _address(medium, text), e164, service_id)


def _address(medium: str, text: str) -> Address:
    if medium != "email" and is_e164(text):
        return Address("phone", text)
    if medium in {"whatsapp", "tracking"} and is_user_id(text):
        return Address("user_id", text)
    email = parse_email(text) if medium not in MESSAGE_MEDIA else None
    if email:
        return email
    raise Invalid(
        "a customer's address is a number in international form, such as +4915112345678, on WhatsApp also a"
        " business-scoped user id, such as US.13491208655302741918; for 'email' it is an email address, and for"
        " 'tracking' any of these (rule E5)",
        code="invalid_address",
    )
