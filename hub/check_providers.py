"""The part of `partyline check` that asks the providers whether they take our credentials, and what time it is."""

import asyncio
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp
import orjson

from config.settings import Settings
from hub.check_findings import Finding, fail, ok, warn

_META_API: Final = "https://graph.facebook.com"
_TWILIO_API: Final = "https://api.twilio.com"
_GRAPH: Final = "v23.0"
_CLOCK_WARN: Final = 30.0
_CLOCK_FAIL: Final = 240.0
"""Seconds; receivers refuse webhooks whose time is off by more than 300."""
_META_BUSY: Final = frozenset({1, 2, 4, 17, 32, 613, 80007, 130429})
"""Meta's codes for too many requests, and for a fault of its own."""

Answer = tuple[int, bytes, Mapping[str, str]]
"""Status, body and headers."""


async def look(session: aiohttp.ClientSession, settings: Settings) -> list[Finding]:
    """All of it, at once."""
    parts = await asyncio.gather(_providers(session, settings), _meta(session, settings), _twilio(session, settings))
    return [finding for part in parts for finding in part]


async def get(session: aiohttp.ClientSession, url: str, **more: Any) -> Answer:
    """Any answer there is. Raises `OSError` where there is none."""
    try:
        async with session.request(more.pop("method", "GET"), url, allow_redirects=False, **more) as answer:
            return answer.status, await answer.content.read(65536), answer.headers
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise OSError(str(error).replace(" ssl:default", "") or type(error).__name__) from error


async def _providers(session: aiohttp.ClientSession, settings: Settings) -> list[Finding]:
    """Whether the configured providers can be reached; and what their clocks say of ours."""
    wanted = []
    if settings.meta_access_token:
        wanted.append(("meta_api", "Meta's API", settings.meta_api_url or _META_API))
    if settings.twilio_account_sid:
        wanted.append(("twilio_api", "Twilio's API", settings.twilio_api_url or _TWILIO_API))
    answers = await asyncio.gather(*(_reach(session, *each) for each in wanted))
    findings = [finding for finding, _ in answers]
    offsets = [offset for _, offset in answers if offset is not None]
    return [*findings, _clock(min(offsets, key=abs))] if offsets else findings


async def _reach(session: aiohttp.ClientSession, code: str, name: str, url: str) -> tuple[Finding, float | None]:
    """Any answer will do: an error is the API's, too. Also gives the seconds our clock is ahead of its."""
    try:
        _, _, headers = await get(session, url)
    except OSError as error:
        return warn(f"{code}_unreachable", name, f"{url}: {error}", "let the hub out to it"), None
    return ok(code, name, f"{url} answers"), _offset(headers.get("Date"))


def _offset(date: str | None) -> float | None:
    try:
        return time.time() - parsedate_to_datetime(date).timestamp() if date else None
    except ValueError:
        return None


def _clock(offset: float) -> Finding:
    said = f"{abs(offset):.0f} s {'ahead of' if offset > 0 else 'behind'} the providers'"
    if abs(offset) >= _CLOCK_FAIL:
        return fail("clock_wrong", "clock", said, "set it (NTP): receivers refuse signatures of another time")
    if abs(offset) >= _CLOCK_WARN:
        return warn("clock_off", "clock", said, "set it (NTP)")
    return ok("clock", "clock", said if abs(offset) >= 2 else "agrees with the providers'")


async def _meta(session: aiohttp.ClientSession, settings: Settings) -> list[Finding]:
    """What Meta says of the access token, and whether it knows each app secret: it signs webhooks with one of them."""
    if not settings.meta_access_token:
        return []
    base = f"{settings.meta_api_url or _META_API}/{_GRAPH}"
    token = settings.meta_access_token.get_secret_value()
    try:
        findings, app_id = await _token(session, base, token, settings)
        if app_id:
            findings += await _app_secrets(session, base, app_id, settings)
    except (OSError, ValueError):
        return []  # that it cannot be reached is said elsewhere
    return findings


async def _token(
    session: aiohttp.ClientSession, base: str, token: str, settings: Settings
) -> tuple[list[Finding], str | None]:
    name, app_id = "Meta's token", settings.meta_app_id
    status, body, _ = await get(
        session, f"{base}/debug_token", params={"input_token": token}, headers={"Authorization": f"Bearer {token}"}
    )
    told = _object(_document(body).get("data"))
    if _is_refused(status, body) or told.get("is_valid") is False:
        cure = "make a permanent one: a system user's token with whatsapp_business_messaging and _management"
        return [fail("meta_token_invalid", name, "Meta does not take META_ACCESS_TOKEN", cure)], app_id
    of_app = str(told.get("app_id") or "") or None
    if app_id and of_app and app_id != of_app:
        found = f"META_ACCESS_TOKEN is of app {of_app}, META_APP_ID says {app_id}"
        return [fail("meta_app_differs", name, found, "take token, secret and id of one app")], app_id
    if status != 200:
        return [], app_id
    ends = told.get("expires_at") or 0
    if ends and ends - time.time() < 14 * 86400:
        cure = "make a permanent one: a system user's token; those of the App Dashboard last a day"
        left = max(0.0, ends - time.time()) / 3600
        return [
            warn("meta_token_expiring", name, f"META_ACCESS_TOKEN ends in {left:.0f} hours", cure)
        ], app_id or of_app
    return [ok("meta_token", name, "Meta takes it")], app_id or of_app


async def _app_secrets(session: aiohttp.ClientSession, base: str, app_id: str, settings: Settings) -> list[Finding]:
    """An app proves itself by its id and its secret together."""
    name, findings = "Meta's app secret", []
    for place, secret in enumerate(settings.meta_app_secrets, 1):
        headers = {"Authorization": f"Bearer {app_id}|{secret.get_secret_value().strip()}"}
        status, body, _ = await get(session, f"{base}/{app_id}/subscriptions", headers=headers)
        which = f"secret {place} of {len(settings.meta_app_secrets)} in META_APP_SECRETS"
        if _is_refused(status, body) and "error" in _document(body):
            made = fail if place == 1 else warn
            cure = "copy it from App settings, Basic; webhooks signed with another are refused with 403"
            findings.append(made("meta_app_secret_wrong", name, f"{which} is not that of app {app_id}", cure))
        elif status == 200:
            findings.append(ok("meta_app_secret", name, f"{which} is that of app {app_id}"))
    return findings


async def _twilio(session: aiohttp.ClientSession, settings: Settings) -> list[Finding]:
    """Whether Twilio takes account and tokens: it signs webhooks with one of them."""
    name, findings = "Twilio's token", []
    sid = settings.twilio_account_sid
    if not sid:
        return []
    url = f"{settings.twilio_api_url or _TWILIO_API}/2010-04-01/Accounts/{sid}.json"
    for place, token in enumerate(settings.twilio_auth_token, 1):
        which = f"token {place} of {len(settings.twilio_auth_token)} in TWILIO_AUTH_TOKEN"
        try:
            status, body, _ = await get(
                session, url, headers={"Authorization": aiohttp.encode_basic_auth(sid, token.get_secret_value())}
            )
        except (OSError, ValueError):
            break  # that it cannot be reached is said elsewhere
        made = fail if place == 1 else warn
        if status in {401, 403, 404}:
            cure = "copy account SID and auth token from one account of Twilio's console; an API key is none of them"
            findings.append(made("twilio_auth_token_wrong", name, f"{which} does not fit account {sid[:6]}...", cure))
        elif status != 200:
            break  # busy or broken: that says nothing of account and token
        elif (state := _document(body).get("status")) not in {None, "active"}:
            cure = "see Twilio's console: nothing is sent or received until it is active again"
            findings.append(fail("twilio_account_inactive", name, f"the account is {state}", cure))
        else:
            findings.append(ok("twilio_auth_token", name, f"{which} fits"))
    return findings


def _is_refused(status: int, body: bytes) -> bool:
    """Whether Meta does not take a token; that it is asked too often, it says with the same statuses."""
    return status in {400, 401} and _object(_document(body).get("error")).get("code") not in _META_BUSY


def _document(body: bytes) -> dict[str, Any]:
    try:
        return _object(orjson.loads(body))
    except orjson.JSONDecodeError:
        return {}


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
