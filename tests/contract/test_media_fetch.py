"""Customers' files are fetched from the provider alone, whatever anything says (rule E10)."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any, Literal

import httpx
import pytest
from aiohttp import web

from providers import twilio, whatsapp_cloud
from providers.base import MediaRef, NotTaken, OutboundMessage, Provider, Refused, SendError
from providers.fetching import CHUNK, Hosts
from providers.simulator import Fault, MediaFault, Number, Simulator, StatusPlan
from providers.simulator.media_shelf import twilio_media_sid
from providers.twilio.media import Downloads
from providers.whatsapp_cloud.media import HOSTS, Place, download

NUMBER = Number("+15550001111", phone_number_id="1001")
CONTENT = bytes(range(256)) * 1024  # four chunks
Name = Literal["meta", "twilio"]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Connect = Callable[..., Awaitable[Provider]]
Serve = Callable[[Handler], Awaitable[str]]

both = pytest.mark.parametrize("name", ["meta", "twilio"])


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(numbers=[NUMBER], status_plan=StatusPlan.none()) as running:
        yield running


@pytest.fixture
async def connect(simulator: Simulator) -> AsyncIterator[Connect]:
    """Connects a provider by name to the simulator, and closes it afterwards."""
    opened: list[Provider] = []

    async def opener(name: Name, **changes: Any) -> Provider:
        given: dict[str, Any] = {"api_url": simulator.url, "timeout": 5.0, "concurrency": 1}
        if name == "meta":
            given |= {"app_secrets": ["s"], "verify_token": "v", "access_token": simulator.meta_access_token}
            provider = await whatsapp_cloud.connect(**(given | changes))
        else:
            given |= {"account_sid": simulator.twilio_account_sid, "auth_tokens": [simulator.twilio_auth_token]}
            provider = await twilio.connect(public_url="https://hub.example", **(given | changes))
        opened.append(provider)
        return provider

    yield opener
    for provider in opened:
        await provider.close()


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serves everything by one handler; gives the URL."""
    async with AsyncExitStack() as stack:

        async def start(handler: Handler) -> str:
            app = web.Application()
            app.router.add_route("*", "/{any:.*}", handler)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return f"http://127.0.0.1:{runner.addresses[0][1]}"

        yield start


def ref(simulator: Simulator, name: Name, media_id: str) -> MediaRef:
    """A file as the provider's webhook names it."""
    if name == "meta":
        return MediaRef(media_id, None)
    path = f"/2010-04-01/Accounts/{simulator.twilio_account_sid}/Messages/MM1/Media/{twilio_media_sid(media_id)}"
    return MediaRef(twilio_media_sid(media_id), f"https://api.twilio.com{path}")


async def fetch(provider: Provider, media: MediaRef) -> tuple[str | None, int | None, str | None, bytes]:
    async with provider.open_media(media) as stream:
        pieces = [piece async for piece in stream.pieces]
    assert all(0 < len(piece) <= CHUNK for piece in pieces)
    return stream.mime_type, stream.size, stream.filename, b"".join(pieces)


async def failure(provider: Provider, media: MediaRef) -> tuple[type[SendError], str, str | None]:
    with pytest.raises(SendError) as caught:
        await fetch(provider, media)
    return type(caught.value), caught.value.code, caught.value.provider_code


@both
async def test_a_file_comes_in_pieces(simulator: Simulator, connect: Connect, name: Name) -> None:
    provider = await connect(name)
    media_id = simulator.add_inbound_media(CONTENT, "application/pdf", "a b.pdf")
    media = ref(simulator, name, media_id)
    whole = ("application/pdf", len(CONTENT), "a b.pdf", CONTENT)
    assert await fetch(provider, media) == whole
    simulator.fail_next_media(MediaFault.chunked())
    assert await fetch(provider, media) == (whole if name == "meta" else (whole[0], None, *whole[2:]))
    if name == "twilio":  # the CDN saw no credentials
        assert simulator.shelf.leaked == 0


@both
async def test_what_fails_may_work_later_unless_the_file_is_gone(
    simulator: Simulator, connect: Connect, name: Name
) -> None:
    provider = await connect(name)
    media_id = simulator.add_inbound_media(CONTENT, "image/png")
    media = ref(simulator, name, media_id)
    for fault, expected in (
        (MediaFault.failing(503), (NotTaken, "provider_unavailable", None)),
        (MediaFault.failing(429), (NotTaken, "throttled", None)),
        (MediaFault.failing(403), (NotTaken, "permission_denied", None)),
        (MediaFault.failing(404), (Refused, "media_unavailable", None)),
        (MediaFault.failing(410), (Refused, "media_unavailable", None)),
        (MediaFault.cut(), (NotTaken, "connection_lost", None)),
    ):
        simulator.fail_next_media(fault)
        assert await failure(provider, media) == expected
    assert (await fetch(provider, media))[3] == CONTENT
    simulator.media[media_id].is_expired = True
    assert (await failure(provider, media))[:2] == (Refused, "media_unavailable")
    assert (await failure(provider, MediaRef(None, None)))[0] is Refused


@both
async def test_wrong_credentials_may_be_mended(simulator: Simulator, connect: Connect, name: Name) -> None:
    wrong = {"access_token": "stale"} if name == "meta" else {"auth_tokens": ["stale"]}
    none: dict[str, Any] = {"access_token": None} if name == "meta" else {"account_sid": None, "auth_tokens": []}
    media = ref(simulator, name, simulator.add_inbound_media(CONTENT, "image/png"))
    assert (await failure(await connect(name, **wrong), media))[:2] == (NotTaken, "token_revoked")
    assert (await failure(await connect(name, **none), media))[:2] == (NotTaken, "not_configured")


async def test_meta_s_answers_to_a_look_up(simulator: Simulator, connect: Connect) -> None:
    provider = await connect("meta")
    media = ref(simulator, "meta", simulator.add_inbound_media(CONTENT, "image/png"))
    for fault, expected in (
        (Fault.refused(100), (Refused, "media_unavailable", "100")),
        (Fault.refused(131052), (Refused, "media_unavailable", "131052")),
        (Fault.bare(404), (Refused, "media_unavailable", None)),
        (Fault.refused(190, status=401), (NotTaken, "token_revoked", "190")),
        (Fault.refused(10, status=403), (NotTaken, "permission_denied", "10")),
        (Fault.refused(368), (NotTaken, "account_restricted", "368")),
        (Fault.throttled(code=80007, retry_after=7), (NotTaken, "throttled", "80007")),
        (Fault.bare(502), (NotTaken, "bare_error", None)),
        (Fault.html(), (NotTaken, "bad_answer", None)),
        (Fault.dropped(), (NotTaken, "connection_lost", None)),
    ):
        simulator.fail_next_asked(fault)
        assert await failure(provider, media) == expected
    for odd in ("../1001", "1?fields=access_token", "ü", "a/b", "."):
        assert (await failure(provider, MediaRef(odd, "https://evil.example/")))[1] == "media_host_refused"


@both
async def test_nothing_is_asked_of_a_foreign_host(
    simulator: Simulator, connect: Connect, serve: Serve, name: Name
) -> None:
    """The foreign host is another port of this machine; tests/unit/test_fetching.py has the other disguises."""
    asked: list[web.Request] = []

    async def foreign(request: web.Request) -> web.Response:
        asked.append(request)
        return web.Response(body=CONTENT)

    address = f"{await serve(foreign)}/x"
    provider = await connect(name)
    media = ref(simulator, name, simulator.add_inbound_media(CONTENT, "image/png"))
    faults = [MediaFault.redirect(url) for url in (address, "//evil.example/x", "https://lookaside.fbsbx.com@evil/")]
    if name == "meta":
        faults += [MediaFault.address(url) for url in (address, "https://lookaside.fbsbx.com.evil.example/x", "")]
    for fault in faults:
        simulator.fail_next_media(fault)
        assert (await failure(provider, media))[:2] == (Refused, "media_host_refused")
    for url in (address, "http://api.twilio.com/x", "https://api.twilio.com.evil.example/x"):
        assert (await failure(provider, MediaRef(None, url)))[:2] == (Refused, "media_host_refused")
    assert asked == []
    assert (await fetch(provider, media))[3] == CONTENT


class Body(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"file"


async def test_meta_s_token_stays_at_the_first_of_its_hosts() -> None:
    asked: list[tuple[str, str | None]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((str(request.url), request.headers.get("Authorization")))
        if request.url.host == "lookaside.fbsbx.com":
            return httpx.Response(302, headers={"Location": "https://scontent.xx.fbcdn.net/f?oe=1"})
        return httpx.Response(200, stream=Body(), headers={"Content-Type": "image/png"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as session:
        place = Place("https://lookaside.fbsbx.com/x?mid=1")
        async with download(session, Hosts(HOSTS), place, "secret", 5.0) as stream:
            assert b"".join([piece async for piece in stream.pieces]) == b"file"
    assert asked == [
        ("https://lookaside.fbsbx.com/x?mid=1", "Bearer secret"),
        ("https://scontent.xx.fbcdn.net/f?oe=1", None),
    ]


async def test_twilio_s_credentials_stay_at_its_api(serve: Serve) -> None:
    asked: list[tuple[str, str | None]] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append((request.path_qs, request.headers.get("Authorization")))
        if request.path.startswith("/api/loop"):
            return web.Response(status=307, headers={"Location": request.path})
        if request.path.startswith("/api/2010"):
            return web.Response(status=307, headers={"Location": "/cdn/f?Signature=a~b%2Fc"})
        return web.Response(body=b"file")

    url = await serve(answer)
    downloads = Downloads(api_url=f"{url}/api", authorization="Basic secret", timeout=5.0, concurrency=1)
    try:
        async with downloads.open(MediaRef(None, "https://api.twilio.com/2010/x?a=%20")) as stream:
            assert b"".join([piece async for piece in stream.pieces]) == b"file"
        assert asked == [("/api/2010/x?a=%20", "Basic secret"), ("/cdn/f?Signature=a~b%2Fc", None)]
        with pytest.raises(NotTaken, match="too many redirects"):
            async with downloads.open(MediaRef(None, "https://api.twilio.com/loop")):
                pass
        assert [secret for path, secret in asked if path == "/api/loop"] == ["Basic secret", None, None, None]
    finally:
        await downloads.close()


@both
async def test_a_file_that_does_not_end_is_given_up(connect: Connect, serve: Serve, name: Name) -> None:
    """Neither silence nor a trickle holds a download: reads are bounded, and so is the whole."""

    async def trickle(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(b"x")
            await asyncio.sleep(30 if "silent" in request.path else 0.01)

    url = await serve(trickle)
    provider = await connect(name, api_url=url, timeout=0.05)
    for path in ("silent", "trickle"):
        assert (await failure(provider, MediaRef(None, f"{url}/{path}")))[:2] == (NotTaken, "timeout")


@both
async def test_what_is_compressed_is_not_taken(connect: Connect, serve: Serve, name: Name) -> None:
    async def zipped(request: web.Request) -> web.Response:
        assert request.headers["Accept-Encoding"] == "identity"
        return web.Response(body=gzip.compress(bytes(1000)), headers={"Content-Encoding": "gzip"})

    url = await serve(zipped)
    provider = await connect(name, api_url=url)
    assert await failure(provider, MediaRef(None, f"{url}/x")) == (NotTaken, "bad_answer", None)


@both
async def test_downloads_keep_no_send_waiting(simulator: Simulator, connect: Connect, name: Name) -> None:
    provider = await connect(name, concurrency=1)
    media = ref(simulator, name, simulator.add_inbound_media(CONTENT, "image/png"))
    simulator.fail_next_media(MediaFault.slow(30), times=8)
    async with AsyncExitStack() as stack:
        for _ in range(8):
            await stack.enter_async_context(provider.open_media(media))
        medium, sender = ("whatsapp", "1001") if name == "meta" else ("sms", NUMBER.e164)
        await provider.send(OutboundMessage("m", medium, sender, "+15552223333", None, "text", {"text": "x"}))  # type: ignore[arg-type]
    assert len(simulator.sent) == 1


@both
async def test_a_reader_s_own_fault_passes_through(simulator: Simulator, connect: Connect, name: Name) -> None:
    provider = await connect(name)
    media = ref(simulator, name, simulator.add_inbound_media(CONTENT, "image/png"))
    for _ in range(20):  # more than there are slots and connections
        with suppress(ZeroDivisionError):
            async with provider.open_media(media) as stream:
                assert await anext(stream.pieces)
                raise ZeroDivisionError
            pytest.fail("the fault was lost")
    assert (await fetch(provider, media))[3] == CONTENT
