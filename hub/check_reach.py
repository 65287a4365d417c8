"""The part of `partyline check` that calls: this hub by the URLs customers and providers use, providers, endpoints."""

import asyncio
import secrets
import ssl
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from config.settings import Settings
from hub import app, check_providers
from hub.check_findings import Finding, fail, ok, warn
from hub.check_providers import Answer, get
from hub.domain.endpoints import EndpointPolicy
from hub.domain.errors import Refusal

_TIMEOUT: Final = aiohttp.ClientTimeout(total=5)
_SLOW: Final = 2.0
"""Seconds after which an endpoint that does nothing yet is slow."""
_TOGETHER: Final = 8
_MOST: Final = 100
"""Endpoints that are looked at."""
_EXPIRING: Final = 14
"""Days before its end that a certificate should have been renewed."""
_LINK_HOST: Final = 421
"""What a link host answers to whatever is no link."""


async def look(settings: Settings, subscriptions: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """All of it, at once."""
    context = ssl.create_default_context()
    async with aiohttp.ClientSession(timeout=_TIMEOUT, connector=aiohttp.TCPConnector(ssl=context)) as session:
        is_running = await _is_running(session, settings)
        parts = await asyncio.gather(
            _ready(session, settings, is_running=is_running),
            _public(session, settings, is_running=is_running),
            _link_host(session, settings, is_running=is_running),
            _certificates(settings, context),
            check_providers.look(session, settings),
            _endpoints(session, settings, subscriptions),
        )
    return [finding for part in parts for finding in part]


def _is_alive(answer: Answer) -> bool:
    return answer[0] == 200 and b'"alive"' in answer[1]


# This hub -------------------------------------------------------------------------------------------------------------


async def _is_running(session: aiohttp.ClientSession, settings: Settings) -> bool:
    if not settings.port:
        return False
    try:
        return _is_alive(await get(session, f"{settings.reached_here}/healthz"))
    except OSError:
        return False


async def _ready(session: aiohttp.ClientSession, settings: Settings, *, is_running: bool) -> list[Finding]:
    if not is_running:
        return []
    try:
        status, body, _ = await get(session, f"{settings.reached_here}/readyz")
    except OSError as error:
        return [fail("not_ready", "hub", str(error), "see its log")]
    if status == 200:
        return [ok("hub", "hub", f"runs and is ready at {settings.reached_here}")]
    return [fail("not_ready", "hub", body[:200].decode(errors="replace"), "see docs/operations.md, and its log")]


async def _public(session: aiohttp.ClientSession, settings: Settings, *, is_running: bool) -> list[Finding]:
    """Whether this very hub answers at the URL that providers have; only a hub that runs must."""
    name, url = "PUBLIC_URL answers", settings.reached_at
    made = fail if is_running else warn
    hint = "" if is_running else "no hub runs here: start it and check again; "
    try:
        answer = await get(session, f"{url}/healthz")
    except OSError as error:
        cure = (
            f"{hint}is its DNS set, its certificate good, does the proxy pass it on? not all networks reach themselves"
        )
        return [made("public_url_unreachable", name, f"{url}: {error}", cure)]
    if answer[0] == _LINK_HOST:
        cure = "PUBLIC_URL and LINK_BASE_URL need hosts of their own"
        return [fail("public_url_is_link_host", name, f"{url} serves tracked links only", cure)]
    if not _is_alive(answer):
        cure = f"{hint}let it lead to this hub: what answers there is something else"
        return [made("public_url_elsewhere", name, f"{url}/healthz answers {answer[0]}, and is no hub", cure)]
    if settings.meta_verify_token and not await _shakes_hands(session, url, settings):
        cure = "let PUBLIC_URL lead to this hub, or give that one the same META_VERIFY_TOKEN"
        found = f"{url} is a hub, but does not know this META_VERIFY_TOKEN"
        return [fail("public_url_other_hub", name, found, cure)]
    return [ok("public_url_answers", name, f"{url} is this hub" if settings.meta_verify_token else f"{url} is a hub")]


async def _shakes_hands(session: aiohttp.ClientSession, url: str, settings: Settings) -> bool:
    """As Meta does when the webhook is set up: only a hub with our verify token gives the challenge back."""
    assert settings.meta_verify_token is not None
    challenge = secrets.token_hex(8)
    token = settings.meta_verify_token.get_secret_value()
    query = {"hub.mode": "subscribe", "hub.verify_token": token, "hub.challenge": challenge}
    try:
        status, body, _ = await get(session, f"{url}/webhooks/meta", params=query)
    except OSError:
        return False
    return status == 200 and body.decode(errors="replace") == challenge


async def _link_host(session: aiohttp.ClientSession, settings: Settings, *, is_running: bool) -> list[Finding]:
    """Whether the link host leads here: a link host answers 421 to what is no link."""
    name, url = "link host answers", settings.link_base_url
    if not url:
        return []
    is_shared = urlsplit(url).netloc == urlsplit(settings.reached_at).netloc
    made = fail if is_running else warn
    cure = f"point {urlsplit(url).hostname} at the hub (DNS, proxy), and let the proxy keep its Host header"
    try:
        answer = await get(session, f"{url}/healthz")
    except OSError as error:
        return [made("link_host_unreachable", name, f"{url}: {error}", cure)]
    if answer[0] != _LINK_HOST and not (is_shared and _is_alive(answer)):
        what = (
            "is the hub, but takes it for its API" if _is_alive(answer) else f"answers {answer[0]}, and is no link host"
        )
        return [made("link_host_elsewhere", name, f"{url} {what}", cure)]
    return [ok("link_host_answers", name, f"{url} serves links")]


# Certificates ---------------------------------------------------------------------------------------------------------


async def _certificates(settings: Settings, context: ssl.SSLContext) -> list[Finding]:
    """Of our own hosts: whether browsers and providers take them, and how long they still will."""
    urls = (settings.reached_at, settings.link_base_url, settings.collector_base_url)
    places = {(parts.hostname or "", parts.port or 443): None for url in urls if url
              for parts in [urlsplit(url)] if parts.scheme == "https"}  # fmt: skip
    found = await asyncio.gather(*(_certificate(host, port, context) for host, port in places))
    return [finding for finding in found if finding]


async def _certificate(host: str, port: int, context: ssl.SSLContext) -> Finding | None:
    """None where nobody answers there: that is said elsewhere."""
    name = f"certificate of {host}"
    try:
        async with asyncio.timeout(5):
            await asyncio.get_running_loop().getaddrinfo(host, port)
            _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        cure = "renew it, or give the whole chain: providers and browsers do not connect"
        return fail("certificate_invalid", name, error.verify_message, cure)
    except (OSError, TimeoutError, ValueError):
        return None
    told = writer.get_extra_info("peercert") or {}
    writer.close()
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(told["notAfter"]), UTC) if "notAfter" in told else None
    if ends is None:
        return None
    days = (ends - datetime.now(UTC)).days
    if days < _EXPIRING:
        return warn("certificate_expiring", name, f"ends in {days} days, on {ends:%Y-%m-%d}", "renew it")
    return ok("certificate", name, f"good until {ends:%Y-%m-%d}")


# Services' endpoints --------------------------------------------------------------------------------------------------


async def _endpoints(
    session: aiohttp.ClientSession, settings: Settings, subscriptions: Sequence[Mapping[str, Any]]
) -> list[Finding]:
    """Whether what services are called at answers, as far as that can be seen without an event: by OPTIONS, which
    changes nothing.
    """
    try:
        policy = app.load_endpoint_policy(settings)
    except app.Unfit:
        return []
    wanted: dict[str, list[str]] = {}
    for each in subscriptions:
        if each["endpoint_url"]:
            wanted.setdefault(each["endpoint_url"], []).append(each["service"]["name"])
    room = asyncio.Semaphore(_TOGETHER)
    found = await asyncio.gather(
        *(_endpoint(session, room, url, sorted(set(names)), policy) for url, names in list(wanted.items())[:_MOST])
    )
    return list(found)


async def _endpoint(
    session: aiohttp.ClientSession, room: asyncio.Semaphore, url: str, names: Sequence[str], policy: EndpointPolicy
) -> Finding:
    name, parts = f"endpoint of {', '.join(names)}", urlsplit(url)
    shown = f"{parts.scheme}://{parts.netloc}{parts.path}"
    try:
        policy.check_url(url)
    except Refusal as error:
        cure = "allow its network in ALLOW_PRIVATE_ENDPOINTS, or let the service connect with another URL"
        return fail("endpoint_not_allowed", name, f"{shown}: {error.detail}", cure)
    began = time.monotonic()
    try:
        async with room:
            began = time.monotonic()
            status, _, _ = await get(session, url, method="OPTIONS")
    except OSError as error:
        cure = "start the service, or mend its DNS, firewall or certificate; its events wait meanwhile"
        return fail("endpoint_unreachable", name, f"{shown}: {error}", cure)
    return _judge_endpoint(name, shown, status, time.monotonic() - began)


def _judge_endpoint(name: str, shown: str, status: int, seconds: float) -> Finding:
    if status in {404, 410}:
        cure = "is the path right? some servers answer so to OPTIONS alone: see the attempts, GET /v1/deliveries"
        return warn("endpoint_not_found", name, f"{shown} answers {status}", cure)
    if status in {401, 403, 407}:
        cure = "deliveries carry a signature and no login: let them through to what verifies it"
        return warn("endpoint_refuses", name, f"{shown} answers {status}", cure)
    if status >= 500:
        return warn("endpoint_failing", name, f"{shown} answers {status}", "see the service's log")
    if 300 <= status < 400:
        cure = "connect with the address it leads to: deliveries follow no redirects"
        return warn("endpoint_redirects", name, f"{shown} answers {status}", cure)
    if seconds >= _SLOW:
        cure = "answer at once and work later: the hub waits 15 s at most, and sends no more to who keeps it waiting"
        return warn("endpoint_slow", name, f"{shown} took {seconds:.1f} s to answer", cure)
    return ok("endpoint", name, f"{shown} answers, within {max(1, round(seconds * 1000))} ms")
