"""Twilio's webhooks for SMS and WhatsApp: verify the signature, parse the one item of a body (rules B1 to B5).

All functions are pure and none raises on any input. Twilio posts a form, or JSON where a number is set up so; both
hold the same parameters. Messages and statuses may arrive on either path.
"""

import codecs
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qs, parse_qsl

from multidict import MultiDict
from twilio.request_validator import HMAC_SHA1, HMAC_SHA256, RequestValidator, get_signature_algorithm

from providers.base import Item, MessageReceived, SenderRef, StatusReported, Unparsed, WebhookRequest
from providers.twilio.codes import STATUSES, reported_errors
from providers.twilio.content import read_content
from providers.twilio.parameters import (
    Params,
    bare_address,
    canonical,
    customer_of,
    medium_of,
    read_json,
    settle,
)

_FORM: Final = "application/x-www-form-urlencoded"
_JSON: Final = "application/json"
_BODY_HASH: Final = "bodySHA256"
_SIDS: Final = ("MessageSid", "SmsMessageSid", "SmsSid")
_TELLING: Final = (*_SIDS, "From", "ExternalUserId", "MessageStatus")
"""A body with none of these says nothing."""
_INBOUND: Final = frozenset({"received", "receiving"})


def verify(request: WebhookRequest, tokens: Sequence[str], public_url: str, shared_key: str | None = None) -> bool:
    """Whether Twilio signed this with one of the tokens (rule B1).

    The signature covers the configured public URL, path and query as received, and every parameter. A request that
    names HMAC-SHA256 is signed with the shared key, and refused where none is configured.
    """
    signature = request.headers.get("x-twilio-signature")
    if not signature or not signature.isascii():
        return False
    algorithm = get_signature_algorithm(request.headers.get("x-twilio-webhooks-signature-settings"))
    keys = {HMAC_SHA1: tokens, HMAC_SHA256: (shared_key,)}.get(algorithm.upper(), ())
    try:
        signed = _signed(request)
        url = public_url.rstrip("/") + request.path
        # Every key is tried, so that the time does not tell which one fits; an empty one would fit anybody.
        results = [RequestValidator(key).validate(url, signed, signature, algorithm) for key in keys if key]
    except Exception:  # the validator raises on odd URLs and texts
        return False
    return any(results)


def parse(request: WebhookRequest) -> list[Item]:
    """The item of a body, and notes about what was odd with it; at least one for any body whatever."""
    media_type, charset = _content_type(request)
    given, problem = _parameters(request.body, media_type)
    if not any(given.get(name) for name in _TELLING):
        return [_unparsed(problem or "unexpected_shape", "", request.body)]
    params = {settle(name): settle(value) for name, value in given.items()}
    is_cleaned = params != given
    try:
        item = _read(params, request.path, is_cleaned)
    except Exception as error:
        # A fault of ours must not lose the message: Twilio sends it once.
        return [_unparsed("parser_failed", f"{type(error).__name__}: {error}", request.body)]
    return [item, *_notes(request, media_type, charset, is_cleaned or _is_replaced(params))]


def parse_listed(request: WebhookRequest) -> list[Item]:
    """The item of a message or a status that Twilio lists (`listing.as_webhook`), with Twilio's time."""
    at = _listed_time(request.body)
    return [_listed(item, at) for item in parse(request)]


def refuse(_request: WebhookRequest) -> bool:
    """Nobody calls what is only read from the list."""
    return False


def envelopes(_request: WebhookRequest) -> dict[str, bytes]:
    """None: Twilio posts one item at a time, so the whole body is kept for it."""
    return {}


def _signed(request: WebhookRequest) -> MultiDict[str]:
    """What the signature covers beside the URL. JSON is covered by its hash in the query, which must be there.

    The hash is compared here, over the bytes: the SDK would have them be UTF-8. Raises ValueError.
    """
    if _content_type(request)[0] != _JSON:
        return MultiDict(parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True))
    named = _query(request.path).get(_BODY_HASH, [""])[0]
    if not hmac.compare_digest(named.encode(), hashlib.sha256(request.body).hexdigest().encode()):
        raise ValueError("JSON without its hash")
    return MultiDict()


def _listed(item: Item, at: float | None) -> Item:
    if isinstance(item, MessageReceived):
        return replace(item, at=at, is_reconciled=True)
    return replace(item, at=at) if isinstance(item, StatusReported) else item


def _listed_time(body: bytes) -> float | None:
    named = _parameters(body, _FORM)[0].get("DateSent", "")
    try:
        return datetime.fromisoformat(named).timestamp()
    except (ValueError, OverflowError):
        return None


def _query(path: str) -> dict[str, list[str]]:
    return parse_qs(path.partition("?")[2])


def _content_type(request: WebhookRequest) -> tuple[str, str]:
    media_type, _, rest = request.headers.get("content-type", "").partition(";")
    named = dict(part.strip().lower().partition("=")[::2] for part in rest.split(";"))
    return media_type.strip().lower(), named.get("charset", "utf-8").strip("\"' ")


def _parameters(body: bytes, media_type: str) -> tuple[Params, str | None]:
    """The parameters, the first of repeated ones, and what is wrong where there are none."""
    if media_type == _JSON or (media_type != _FORM and body.lstrip()[:1] == b"{"):
        return read_json(body)
    params: Params = {}
    for name, value in parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True):
        params.setdefault(name, value)
    return params, None


def _is_replaced(params: Params) -> bool:
    """Whether bytes that are no UTF-8 may have been replaced, so that only the body still has them."""
    return any("\ufffd" in value for value in params.values())


def _read(params: Params, path: str, is_cleaned: bool) -> Item:
    reported = params.get("MessageStatus") or params.get("SmsStatus") or ""
    if reported and reported.lower() not in _INBOUND:
        return _status(params, reported, path, is_cleaned)
    return _message(params, is_cleaned)


def _message(params: Params, is_cleaned: bool) -> Item:
    kind, content, raw = read_content(params)
    sid = _sid(params)
    return MessageReceived(
        key=f"twilio:message:{sid}" if sid else _key_without_sid(params, params.get("To")),
        sender=_sender(params, "To"),
        customer=customer_of(params, "From"),
        provider_id=sid,
        at=None,
        type=kind,
        content=content,
        raw=raw,
        cleaned=is_cleaned,
    )


def _status(params: Params, reported: str, path: str, is_cleaned: bool) -> Item:
    """Statuses are unique by message and status (rule B4); the query brings back the hub's own id."""
    sid = _sid(params)
    hub_ids = _query(path).get("message", [])
    return StatusReported(
        key=f"twilio:status:{sid}:{reported}" if sid else _key_without_sid(params, params.get("From")),
        sender=_sender(params, "From"),
        customer=customer_of(params, "To"),
        provider_id=sid,
        hub_id=settle(hub_ids[0]) if hub_ids else None,
        status=STATUSES.get(reported.lower()),
        reported=reported,
        at=None,
        errors=_errors(params),
        cleaned=is_cleaned,
    )


def _errors(params: Params) -> tuple[dict[str, Any], ...]:
    return reported_errors(params.get("ErrorCode"), params.get("ErrorMessage") or params.get("ChannelStatusMessage"))


def _sender(params: Params, side: str) -> SenderRef:
    names = (bare_address(params.get(side)), params.get("MessagingServiceSid"))
    return SenderRef("twilio", medium_of(params), tuple(name for name in names if name))


def _sid(params: Params) -> str | None:
    return next((params[name] for name in _SIDS if params.get(name)), None)


def _key_without_sid(params: Params, number: str | None) -> str:
    return f"twilio:sha256:{_digest(bare_address(number).encode(), canonical(params))}"


def _notes(request: WebhookRequest, media_type: str, charset: str, is_cleaned: bool) -> list[Unparsed]:
    reasons: dict[str, str] = {}
    if media_type not in ("", _FORM, _JSON):
        reasons["content_type"] = media_type
    if not _is_utf8(charset):
        reasons["charset"] = charset
    if is_cleaned:
        reasons["text_cleaned"] = ""
    return [_unparsed(reason, detail, request.body, is_note=True) for reason, detail in reasons.items()]


def _is_utf8(charset: str) -> bool:
    try:
        return codecs.lookup(charset).name == "utf-8"
    except (LookupError, ValueError):
        return False


def _unparsed(reason: str, detail: str, body: bytes, *, is_note: bool = False) -> Unparsed:
    key = f"twilio:quarantine:{_digest(reason.encode(), body)}"
    return Unparsed(key, reason, settle(detail[:500]), body, is_note)


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()
