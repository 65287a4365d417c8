"""The templates of a WhatsApp business account, and which account a number belongs to.

https://developers.facebook.com/documentation/business-messaging/whatsapp/templates/template-management
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Final

from pywa_async.api import GraphAPIAsync

from providers.base import OutcomeUnknown, Refused, Template
from providers.whatsapp_cloud.values import as_dict, ident, settle, text_of

Ask = Callable[[Callable[[GraphAPIAsync], Awaitable[Any]]], Awaitable[Any]]
"""Makes one request within the limits of time and number. Raises `SendError`."""

MAX_TEMPLATES: Final = 2000
"""More are not read."""

_PAGE: Final = 100
_MAX_PAGES: Final = 100
_MAX_ACCOUNTS: Final = 50
_FIELDS: Final = ("id", "name", "language", "category", "status", "components")
_SCOPES: Final = ("whatsapp_business_management", "whatsapp_business_messaging")


async def read_templates(ask: Ask, account: str) -> list[Template]:
    """The templates of a business account, each once, up to `MAX_TEMPLATES`.

    Raises `SendError`: `Refused` as `no_account` where Meta knows none of this id, or hides it from the token.
    """

    def page(pagination: dict[str, Any]) -> Awaitable[Any]:
        return ask(lambda api: api.get_templates(account, fields=_FIELDS, pagination=pagination))

    found: dict[str, Template] = {}
    try:
        async for item in _pages(page):
            template = _template(item)
            if template is not None:
                found[template.external_id] = template
            if len(found) >= MAX_TEMPLATES:
                break
    except Refused as error:
        if error.code != "sender_not_registered":
            raise
        raise Refused(
            "no_account",
            f"Meta shows no WhatsApp business account {account} to this access token: check the account of the sender.",
            provider_code=error.provider_code,
        ) from error
    return list(found.values())


async def find_account(ask: Ask, sender: str, access_token: str) -> str:
    """The business account that a phone_number_id belongs to, among those that the token was granted.

    A phone number does not say whose it is, so its accounts are asked for their numbers. Raises `SendError`:
    `Refused` as `no_account` where none of them has it.
    """
    for account in await _granted(ask, access_token):
        try:
            if await _has_number(ask, account, sender):
                return account
        except Refused as error:
            if error.code == "token_revoked":
                raise  # any other refusal is about this account only
    raise _no_account(sender)


async def _granted(ask: Ask, access_token: str) -> list[str]:
    """The accounts a token was granted; none where it was not granted account by account."""
    request = partial(_inspect, access_token=access_token)
    try:
        answer = await ask(request)
    except Refused as error:
        if error.code == "token_revoked":
            raise
        return []  # this token may not inspect itself
    scopes = as_dict(as_dict(answer).get("data")).get("granular_scopes")
    granted = [scope for scope in scopes if isinstance(scope, dict)] if isinstance(scopes, list) else []
    targets = [scope.get("target_ids") for name in _SCOPES for scope in granted if scope.get("scope") == name]
    accounts = [ident(target) for part in targets if isinstance(part, list) for target in part]
    return list(dict.fromkeys(account for account in accounts if account))[:_MAX_ACCOUNTS]


def _inspect(api: GraphAPIAsync, *, access_token: str) -> Awaitable[Any]:
    return api.send_raw_request("GET", "/debug_token", params={"input_token": access_token})


async def _has_number(ask: Ask, account: str, sender: str) -> bool:
    def page(pagination: dict[str, Any]) -> Awaitable[Any]:
        return ask(lambda api: api.get_business_phone_numbers(account, fields=("id",), pagination=pagination))

    async for item in _pages(page):
        if ident(item.get("id")) == sender:
            return True
    return False


async def _pages(page: Callable[[dict[str, Any]], Awaitable[Any]]) -> AsyncIterator[dict[str, Any]]:
    """The objects of a list, page after page; Meta names a `next` page on all but the last."""
    pagination: dict[str, Any] = {"limit": _PAGE}
    for _ in range(_MAX_PAGES):
        answer = as_dict(await page(pagination))
        items = answer.get("data")
        if not isinstance(items, list):
            raise OutcomeUnknown("bad_answer", "no list")
        for item in items:
            if isinstance(item, dict):
                yield item
        paging = as_dict(answer.get("paging"))
        after = text_of(as_dict(paging.get("cursors")).get("after"))
        if not paging.get("next") or not after or after == pagination.get("after"):
            return
        pagination["after"] = after


def _template(item: dict[str, Any]) -> Template | None:
    settled = settle(item)
    external_id, name = ident(settled.get("id")), text_of(settled.get("name"))
    if not external_id or not name:
        return None
    components = settled.get("components")
    return Template(
        external_id=external_id,
        name=name,
        language=text_of(settled.get("language")),
        category=_lower(settled.get("category")),
        status=_lower(settled.get("status")),
        content={"components": components if isinstance(components, list) else []},
    )


def _lower(value: Any) -> str | None:
    text = text_of(value)
    return text.lower() if text else None


def _no_account(sender: str) -> Refused:
    return Refused(
        "no_account",
        f"The access token does not tell which WhatsApp business account has the phone number id {sender}: "
        "name the account's id in the sender's settings.",
    )
