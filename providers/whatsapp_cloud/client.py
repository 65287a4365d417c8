"""The HTTP sessions below pywa: one for the API, one for files, which knows no token of itself."""

import asyncio
import logging
import ssl
from typing import Final
from urllib.parse import urlsplit

import httpx
from pywa_async.client import WhatsApp

LOOK_UPS: Final = 4
"""Requests at once that are neither sends nor files."""
DOWNLOADS: Final = 8
"""Files at once."""

Clients = tuple[httpx.AsyncClient, httpx.AsyncClient, WhatsApp | None]


async def build_clients(
    access_token: str | None,
    api_url: str | None,
    timeout: float,  # noqa: ASYNC109 - bounds each request, not this call
    concurrency: int,
) -> Clients:
    """The session for the API, which has room for so many sends and for look-ups; that for files; and the SDK on the
    first, where there is a token.
    """
    # Below warnings pywa logs whole requests and answers, and at warning a hint at every time-out; httpx logs URLs,
    # one of which holds the token.
    logging.getLogger("pywa").setLevel(logging.ERROR)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # Building them blocks for about 0.2 s (certificates).
    return await asyncio.to_thread(_build, access_token, api_url, timeout, concurrency)


def _build(access_token: str | None, api_url: str | None, timeout: float, concurrency: int) -> Clients:
    tls = httpx.create_ssl_context()
    session, files = _session(tls, timeout, concurrency + LOOK_UPS), _session(tls, timeout, DOWNLOADS)
    if access_token is None:
        return session, files, None
    client = WhatsApp(token=access_token, server=None, session=session)
    if api_url is not None:
        session.base_url = httpx.URL(_versioned(api_url, str(session.base_url)))
    return session, files, client


def _session(tls: ssl.SSLContext, timeout: float, connections: int) -> httpx.AsyncClient:
    # A shorter time to connect keeps "never connected" (may be sent again) apart from "never answered".
    return httpx.AsyncClient(
        verify=tls,
        timeout=httpx.Timeout(timeout, connect=timeout / 2),
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
    )


def _versioned(api_url: str, default_url: str) -> str:
    """Give `api_url` the API version of pywa's own URL unless it names one."""
    last = urlsplit(api_url).path.rstrip("/").rpartition("/")[2]
    if last.startswith("v") and last[1:2].isdigit():
        return api_url
    version = urlsplit(default_url).path.strip("/")
    return f"{api_url.rstrip('/')}/{version}"
