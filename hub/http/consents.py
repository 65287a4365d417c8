"""The ledger of consent over HTTP: for services, and for the operator, who may lift what was revoked (rule E5)."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, get_args
from uuid import UUID

from aiohttp import web
from pydantic import BeforeValidator, StringConstraints

from hub.actions.consents import ConsentRequest, set_consent, view_consent
from hub.actions.roster import Caller
from hub.domain.addresses import Address, is_e164, is_user_id
from hub.domain.consent import CONSENT_MEDIA, MESSAGE_MEDIA, Kind
from hub.domain.declared import parse_email
from hub.domain.errors import Invalid, NotFound
from hub.domain.ids import public_id
from hub.http.answers.consents import ConsentLog, ConsentState
from hub.http.auth import operator, require, service
from hub.http.context import CONTEXT
from hub.http.operations import operation
from hub.http.params import LIMIT, choice, integer, phone, word_in_path
from hub.http.problems import answer
from hub.http.schemas import Model, clean, read_json
from hub.store.consent_log import ConsentFilter, list_latest
from hub.store.pool import Record

_WRITES: Final = frozenset({"reply", "automate"})
_MEDIUM: Final = word_in_path("medium", "what is consented to", "sms", enum=sorted(CONSENT_MEDIA))
_ADDRESS: Final = word_in_path(
    "address",
    "the customer's: a number in international form, a business-scoped user id, or an email",
    "+4915112345678",
)
_NUMBER: Final = phone("number", "on this number of the organisation's alone; not said: on all of them")
_PLACE: Final = (_MEDIUM, _ADDRESS)
_OF_MEDIUM: Final = choice("medium", "of this medium alone", CONSENT_MEDIA)
_KIND: Final = choice("kind", "of this kind alone, as `stop`", get_args(Kind))
_OF_NUMBER: Final = phone("number", "what was said of this number alone")
_BEFORE: Final = integer("before", "the `next` of the page before", default=2**62)
_CODES: Final = ("invalid_address",)


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
    app.router.add_get("/v1/admin/consents", operator(list_consents))
    app.router.add_get(f"/v1/admin/{path}", operator(get_any_consent))
    app.router.add_put(f"/v1/admin/{path}", operator(put_any_consent))


@operation(path=_PLACE, query=(_NUMBER,), answers={200: ConsentState}, codes=(*_CODES, "not_connected"))
async def get_consent(request: web.Request, caller: Caller) -> web.Response:
    """What holds for a customer, and why."""
    return await _get(request, caller.service_id)


@operation(
    path=_PLACE,
    query=(_NUMBER,),
    body=ConsentIn,
    answers={200: ConsentState},
    codes=(*_CODES, "not_connected", "revoked_by_customer"),
    scopes="with the scope `reply` or `automate`; for `email` and `tracking`, `profiles` does as well",
)
async def put_consent(request: web.Request, caller: Caller) -> web.Response:
    """Note what a customer said to a service."""
    writes = _WRITES if _MEDIUM.read(request) in MESSAGE_MEDIA else _WRITES | {"profiles"}
    if not caller.scopes & writes:
        require(caller, "reply")
    return await _put(request, caller.service_id)


@operation(path=_PLACE, query=(_NUMBER,), answers={200: ConsentState}, codes=_CODES)
async def get_any_consent(request: web.Request) -> web.Response:
    """What holds for a customer, and why, with all evidence."""
    return await _get(request, None)


@operation(
    path=_PLACE, query=(_NUMBER,), body=ConsentIn, answers={200: ConsentState}, codes=(*_CODES, "evidence_required")
)
async def put_any_consent(request: web.Request) -> web.Response:
    """Note what a customer said, or lift a revocation with evidence of their wish."""
    return await _put(request, None)


@operation(query=(_OF_MEDIUM, _KIND, _OF_NUMBER, _BEFORE, LIMIT), answers={200: ConsentLog})
async def list_consents(request: web.Request) -> web.Response:
    """What was said of consent, newest first. Of one number: what was said of it alone. With filters a page may be
    short, even empty, and yet have a next one.
    """
    wanted = ConsentFilter(_OF_MEDIUM.find(request), _KIND.find(request), _OF_NUMBER.find(request))
    async with request.app[CONTEXT].database.reading() as conn:
        rows, following = await list_latest(conn, _BEFORE.read(request), wanted, LIMIT.read(request))
    return answer({"items": [_entry(row) for row in rows], "next": None if following is None else str(following)})


def _entry(row: Record) -> dict[str, Any]:
    named = {"id": public_id("svc", row["service_id"]), "name": row["service_name"]} if row["service_id"] else None
    address = {"type": row["address_type"], "value": row["address_value"]} if row["address_value"] else None
    return {
        "id": str(row["id"]),
        "medium": row["medium"],
        "address": address,
        "number": row["e164"],
        **{name: row[name] for name in ("kind", "source", "evidence", "at")},
        "service": named,
    }


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
    medium, text = _MEDIUM.read(request), _ADDRESS.read(request)
    if medium not in CONSENT_MEDIA:
        raise NotFound("there is consent for 'whatsapp', 'sms', 'email' and 'tracking' only (rule E5)")
    e164 = _NUMBER.find(request)
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
