"""Customers' files at Meta: where one is, and fetching it.

https://developers.facebook.com/docs/whatsapp/cloud-api/reference/media. A file's address is good for five minutes and
needs the access token, which goes to Meta's own hosts only.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx
from pywa_async.api import GraphAPIAsync

from providers.base import MediaRef, MediaStream, NotTaken, Refused, SendError
from providers.fetching import (
    CHUNK,
    MAX_REDIRECTS,
    PLAIN,
    Hosts,
    filename_of,
    may_work_later,
    meaning_of,
    size_of,
    within,
)
from providers.whatsapp_cloud.errors import from_failure
from providers.whatsapp_cloud.values import as_dict, text_of

HOSTS: Final = frozenset({"lookaside.fbsbx.com", ".fbcdn.net", ".whatsapp.net"})
"""Where Meta keeps files."""
TOTAL: Final = 10
"""Time-outs of a request that a whole download may take."""

Ask = Callable[[Callable[[GraphAPIAsync], Awaitable[Any]]], Awaitable[Any]]

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,255}", re.ASCII)
_GONE: Final = frozenset({"sender_not_registered", "invalid_content", "media_unavailable", "not_found"})
"""What Meta says of an id it does not know (any more): 100, with the subcode 33 or without, and 131052."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file is now, and what Meta says of it."""

    url: str
    mime_type: str | None = None
    size: int | None = None


async def find(ask: Ask, hosts: Hosts, media: MediaRef) -> Place:
    """Where a file is: asked for by its id, which lasts longer than an address does. Raises `Refused`, `NotTaken`."""
    if not media.provider_id or not _ID.fullmatch(media.provider_id):
        return Place(hosts.check(media.url))
    media_id = media.provider_id
    try:
        answer = as_dict(await ask(lambda api: api.get_media_url(media_id)))
    except SendError as error:
        raise _meaning(error) from error
    url = text_of(answer.get("url"))
    if url is None:
        raise NotTaken("bad_answer", "no address")
    size = answer.get("file_size")
    return Place(hosts.check(url), text_of(answer.get("mime_type")), size_of(str(size)))


def _meaning(error: SendError) -> SendError:
    if isinstance(error, Refused) and (error.code in _GONE or (error.code == "refused" and error.detail == "HTTP 404")):
        return Refused("media_unavailable", "Meta has no such file any more.", provider_code=error.provider_code)
    return may_work_later(error)


@asynccontextmanager
async def download(
    session: httpx.AsyncClient,
    hosts: Hosts,
    place: Place,
    access_token: str,
    timeout: float,  # noqa: ASYNC109 - bounds each read as well as, ten times as long, the whole
) -> AsyncIterator[MediaStream]:
    """Fetch a file. Raises `Refused`, `NotTaken`, also while its pieces are read."""
    deadline = asyncio.get_running_loop().time() + TOTAL * timeout
    answer = await _open(session, hosts, place.url, access_token, deadline)
    try:
        headers = answer.headers
        if headers.get("Content-Encoding", "identity") != "identity":
            raise NotTaken("bad_answer", "the file came compressed, which was not asked for")
        yield MediaStream(
            mime_type=place.mime_type or headers.get("Content-Type"),
            size=size_of(headers.get("Content-Length")) or place.size,
            filename=filename_of(headers.get("Content-Disposition")),
            pieces=_pieces(answer, deadline),
        )
    finally:
        await answer.aclose()


async def _open(
    session: httpx.AsyncClient, hosts: Hosts, url: str, access_token: str, deadline: float
) -> httpx.Response:
    """The answer that has the file. The token goes to the first address only: a redirect is asked without it."""
    headers = PLAIN | {"Authorization": f"Bearer {access_token}"}
    for _ in range(MAX_REDIRECTS + 1):
        answer = await within(deadline, _get(session, url, headers), from_failure)
        if answer.is_success or not answer.has_redirect_location:
            error = meaning_of(answer.status_code, answer.headers.get("Retry-After"))
            if error is None:
                return answer
            await answer.aclose()
            raise error
        await answer.aclose()
        url, headers = hosts.follow(url, answer.headers["Location"]), PLAIN
    raise NotTaken("bad_answer", "too many redirects")


async def _get(session: httpx.AsyncClient, url: str, headers: Mapping[str, str]) -> httpx.Response:
    return await session.send(session.build_request("GET", url, headers=headers), stream=True, follow_redirects=False)


async def _pieces(answer: httpx.Response, deadline: float) -> AsyncIterator[bytes]:
    raw = answer.aiter_raw(CHUNK)
    while (piece := await within(deadline, anext(raw, None), from_failure)) is not None:
        if piece:
            yield piece
