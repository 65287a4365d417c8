"""The delivery client against real sockets whose other end sends exact bytes, on both event loops."""

import asyncio
import functools
import inspect
import re
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import uvloop
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hub.domain.endpoints import EndpointPolicy
from hub.fanout.client import Answer, DeliveryClient

ON = EndpointPolicy.parse("on")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
LARGE = b"x" * (16 * 1024 * 1024)
"""More than all buffers between two sockets hold."""
NO_ROOTS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Trusts nobody; reading the roots of the machine takes longer than most tests here."""
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
Script = Callable[["Peer", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on asyncio's own loop and on uvloop, which production uses."""

    @functools.wraps(test)
    def run(loop: str, **arguments: Any) -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(_in_time(test(**arguments)))

    own = inspect.Parameter("loop", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = inspect.Signature([own, *inspect.signature(test).parameters.values()])  # type: ignore[attr-defined]
    return pytest.mark.parametrize("loop", LOOPS)(run)


async def _in_time(test: Coroutine[Any, Any, None]) -> None:
    async with asyncio.timeout(20):
        await test


class Peer:
    """A server on loopback that does with each connection what its script says."""

    def __init__(
        self, script: Script, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        self._script, self._host, self.port, self._tls = script, host, port, tls
        self.connections = self.ended = 0
        self.requests: list[bytes] = []
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> "Peer":
        self._server = await asyncio.start_server(self._serve, self._host, self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        try:
            await self._script(self, reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # the other side, or the test, has ended
        finally:
            self.ended += 1
            self.note()
            writer.close()

    async def request(self, reader: asyncio.StreamReader) -> None:
        """Read a request."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)\r\n", head)
        assert length
        self.requests.append(head + await reader.readexactly(int(length[1])))
        self.note()

    def note(self) -> None:
        """Something changed."""
        self._changed.set()

    async def until(self, is_so: Callable[["Peer"], bool]) -> None:
        """Wait for something that this side sees."""
        while not is_so(self):
            self._changed.clear()
            await self._changed.wait()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http{'s' if self._tls else ''}://{self._host}:{self.port}/hook"


def answering(wire: bytes, *, closes: bool = False) -> Script:
    """To every request the same bytes; then, perhaps, the end. Otherwise it is for the client to close."""

    async def script(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await peer.request(reader)
            writer.write(wire)
            await writer.drain()
            if closes:
                return

    return script


async def hang(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read requests, never answer."""
    while True:
        await peer.request(reader)


async def stare(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the connection and do not even read."""
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.Event().wait()


async def slam(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close as soon as anything is said."""
    await reader.read(1)


async def grumble(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speak plain HTTP at once, whatever is said."""
    writer.write(ok("Content-Length: 0", status="400 Bad Request"))
    await reader.read()


class Client(DeliveryClient):
    """The client as a context, with endpoints on loopback allowed, and so patient that nothing ends by itself."""

    def __init__(self, policy: EndpointPolicy = ON, **options: Any) -> None:
        super().__init__(policy, **{"timeout": 60.0, "idle": 60.0, "tls": NO_ROOTS, **options})

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def post(client: DeliveryClient, url: str, body: bytes = b"{}") -> Answer:
    return await client.post(url, body, {"webhook-id": "evt_1"})


def ok(*lines: str, body: str = "", status: str = "200 OK") -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", *lines, "", body)).encode()


FILLER = ("X-Filler: " + "f" * 1000,)
KEPT = [
    pytest.param(OK, 200, id="empty"),
    pytest.param(ok("Content-Length: 3", body="abc"), 200, id="body"),
    pytest.param(ok(status="204 No Content"), 204, id="no content"),
    pytest.param(ok(status="304 Not Modified"), 304, id="not modified"),
    pytest.param(ok("Location: http://127.0.0.1:9/", "Content-Length: 0", status="302 Found"), 302, id="redirect"),
    pytest.param(ok("Content-Length: 2", body="no", status="410 Gone"), 410, id="refused"),
    pytest.param(ok("Transfer-Encoding: chunked", body="3\r\nabc\r\n0\r\n\r\n"), 200, id="chunks"),
    pytest.param(ok("Transfer-Encoding: chunked", body="3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n"), 200, id="chunks, trailer"),
    pytest.param(ok("Transfer-Encoding: chunked", body="3 \r\nabc\r\n0\r\n\r\n"), 200, id="chunks, space"),
    pytest.param(ok(status="100 Continue") + OK, 200, id="continue"),
    pytest.param(ok("Link: <a>", status="103 Early Hints") * 2 + OK, 200, id="early hints"),
    pytest.param(ok("Retry-After: 9", status="100 Continue") + OK, 200, id="interim header"),
    pytest.param(OK.replace(b"1.1", b"1.0").replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n"), 200, id="1.0"),
    pytest.param(OK.replace(b"\r\n", b"\n"), 200, id="bare line feeds"),
    pytest.param(b"\r\n" + OK, 200, id="empty line before"),
    pytest.param(ok(*FILLER * 10, "Content-Length: 0"), 200, id="long head"),
    pytest.param(ok("Content-Length: 16000", body="x" * 16_000), 200, id="long body"),
]
DROPPED = [
    pytest.param(ok("Content-Length: 0", "Connection: close"), 200, id="connection: close"),
    pytest.param(OK.replace(b"1.1", b"1.0"), 200, id="1.0"),
    pytest.param(OK + OK, 200, id="two answers"),
    pytest.param(OK + b"HTT", 200, id="half an answer more"),
    pytest.param(OK + b"x", 200, id="garbage behind it"),
    pytest.param(ok("Transfer-Encoding: chunked", body="zz\r\n"), 200, id="no chunks"),
    pytest.param(ok("Content-Length: 20000", body="x" * 20_000), 200, id="longer body"),
    pytest.param(ok("Content-Length: 999999999999", body="x" * 20_000, status="500 No"), 500, id="no end"),
    pytest.param(ok(body="x" * 20_000), 200, id="no length"),
    pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", None, id="no http"),
    pytest.param(b"\x15\x03\x01\x00\x02\x02\x46", None, id="a tls alert"),
    pytest.param(b"HTTP/1.1 2x0 OK\r\n\r\n", None, id="no status"),
    pytest.param(ok("Content-Length: 1", "Content-Length: 2", body="ab"), None, id="two lengths"),
    pytest.param(ok("Content-Length: -1"), None, id="negative length"),
    pytest.param(ok("Connection: Upgrade", "Upgrade: websocket", status="101 Switching"), None, id="upgrade"),
    pytest.param(ok(*FILLER * 20, "Content-Length: 0"), None, id="endless head"),
    pytest.param(ok(status="100 Continue") * 1000, None, id="endless interim answers"),
]
CLOSED = [
    pytest.param(OK, Answer(200), id="after an answer"),
    pytest.param(ok(body="abc"), Answer(200), id="at the end of a body"),
    pytest.param(ok("Content-Length: 5", body="abc", status="403 No"), Answer(403), id="within a body"),
    pytest.param(ok("Transfer-Encoding: chunked", body="3\r\na"), Answer(200), id="within a chunk"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-", Answer(None, "bad_answer"), id="within a head"),
    pytest.param(ok(status="100 Continue"), Answer(None, "bad_answer"), id="after an interim answer"),
    pytest.param(b"", Answer(None, "disconnected"), id="without a word"),
]


@pytest.mark.parametrize(("wire", "status"), KEPT)
@on_both_loops
async def test_connections_are_kept_after_these_answers(wire: bytes, status: int) -> None:
    async with Peer(answering(wire)) as peer, Client() as client:
        assert [await post(client, peer.url) for _ in range(3)] == [Answer(status)] * 3
        assert (peer.connections, len(peer.requests)) == (1, 3)


@pytest.mark.parametrize(("wire", "status"), DROPPED)
@on_both_loops
async def test_connections_are_dropped_after_these_answers(wire: bytes, status: int | None) -> None:
    """By the client: the other side would keep them open."""
    async with Peer(answering(wire)) as peer, Client() as client:
        expected = Answer(status) if status else Answer(None, "bad_answer")
        assert [await post(client, peer.url) for _ in range(2)] == [expected] * 2
        await peer.until(lambda peer: peer.ended == 2)
        assert not expected.is_unreachable


@pytest.mark.parametrize(("wire", "expected"), CLOSED)
@on_both_loops
async def test_the_other_side_closes(wire: bytes, expected: Answer) -> None:
    """A request on a fresh connection is not repeated: it may have been read."""
    async with Peer(answering(wire, closes=True)) as peer, Client() as client:
        assert await post(client, peer.url) == expected
        assert len(peer.requests) == 1
        assert expected.is_unreachable is (not wire)
        await peer.until(lambda peer: peer.ended == 1)
        for _ in range(20):
            await asyncio.sleep(0)  # by now the client has seen the end, or it will in the next request: all the same
        assert await post(client, peer.url) == expected
        assert len(peer.requests) == 2


@on_both_loops
async def test_what_a_request_looks_like() -> None:
    async with Peer(answering(OK)) as peer, Client(look_up=lambda _: ["127.0.0.1"]) as client:
        await client.post(f"http://Some.Name:{peer.port}/a/b?c=%20&d=e", b"{}", {"A": "b", "webhook-id": "evt_1"})
        assert peer.requests == [
            f"POST /a/b?c=%20&d=e HTTP/1.1\r\nHost: some.name:{peer.port}\r\nUser-Agent: Partyline/1\r\n"
            "Accept: */*\r\nContent-Length: 2\r\nA: b\r\nwebhook-id: evt_1\r\n\r\n{}".encode()
        ]
        with pytest.raises(ValueError, match="more than one line"):
            await client.post(peer.url, b"{}", {"A": "b\r\nContent-Length: 0"})
        for url in (f"http://some.name:{peer.port}", f"http://some.name:{peer.port}?c", peer.url):
            await post(client, url)
        assert [request.split()[1] for request in peer.requests[1:]] == [b"/", b"/?c", b"/hook"]


def second_time(*, resets: bool = False, says: bytes = b"", waits: bool = False) -> Script:
    """Answer the first request of a connection; at the second end it, or say something first, or do nothing."""

    async def script(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await peer.request(reader)
        writer.write(OK)
        await peer.request(reader)
        writer.write(says)
        await writer.drain()
        if waits:
            await reader.read()
        if resets:
            end = writer.get_extra_info("socket")
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return script


@pytest.mark.parametrize("resets", [False, True])
@on_both_loops
async def test_a_kept_connection_that_ends_without_an_answer_is_replaced_at_once(resets: bool) -> None:
    async with Peer(second_time(resets=resets)) as peer, Client() as client:
        await post(client, peer.url)
        assert await post(client, peer.url, b"again") == Answer(200)
        assert peer.connections == 2
        assert [request.endswith(b"again") for request in peer.requests] == [False, True, True]


@on_both_loops
async def test_it_is_replaced_once_and_only_if_nothing_was_heard() -> None:
    async def once(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await second_time()(peer, reader, writer) if peer.connections == 1 else await peer.request(reader)

    async with Peer(once) as peer, Client() as client:
        assert [await post(client, peer.url) for _ in range(2)] == [Answer(200), Answer(None, "disconnected")]
        assert (peer.connections, len(peer.requests)) == (2, 3)
    async with Peer(second_time(says=b"HTTP/1.1 2")) as peer, Client() as client:
        assert [await post(client, peer.url) for _ in range(2)] == [Answer(200), Answer(None, "bad_answer")]
        assert len(peer.requests) == 2
    async with Peer(second_time(waits=True)) as peer, Client(timeout=0.5) as client:
        assert [await post(client, peer.url) for _ in range(2)] == [Answer(200), Answer(None, "timeout")]
        assert len(peer.requests) == 2


@on_both_loops
async def test_what_comes_unasked_ends_a_connection() -> None:
    async def script(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await peer.request(reader)
        writer.write(OK)
        await told.wait()
        writer.write(ok("Content-Length: 0", status="408 Request Timeout"))
        assert not await reader.read()

    told = asyncio.Event()
    async with Peer(script) as peer, Client() as client:
        assert await post(client, peer.url) == Answer(200)
        told.set()
        await peer.until(lambda peer: peer.ended == 1)
        assert await post(client, peer.url) == Answer(200)
        assert peer.connections == 2


@on_both_loops
async def test_a_cancelled_post_takes_its_connection_with_it() -> None:
    async def script(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await (hang if peer.connections == 1 else answering(OK))(peer, reader, writer)

    async with Peer(script) as peer, Client() as client:
        hanging = asyncio.create_task(post(client, peer.url))
        await peer.until(lambda peer: len(peer.requests) == 1)
        hanging.cancel()
        await peer.until(lambda peer: peer.ended == 1)
        assert hanging.cancelled()
        assert await post(client, peer.url) == Answer(200)
        assert peer.connections == 2


@on_both_loops
async def test_a_post_that_is_cancelled_while_it_connects_leaves_nothing_open() -> None:
    async def greeted(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer.requests.append(await reader.read(1))  # of a handshake that is never answered
        peer.note()
        await reader.read()

    async with Peer(greeted) as peer, Client() as client:
        connecting = asyncio.create_task(post(client, peer.url.replace("http:", "https:")))
        await peer.until(lambda peer: len(peer.requests) == 1)
        connecting.cancel()
        await peer.until(lambda peer: peer.ended == 1)
        assert connecting.cancelled()


def trickling(beginning: bytes, drop: bytes) -> Script:
    """Say something, then the same again and again, slowly and without end."""

    async def script(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await peer.request(reader)
        writer.write(beginning)
        while not reader.at_eof():
            writer.write(drop)
            await writer.drain()
            await asyncio.sleep(0.01)

    return script


@on_both_loops
async def test_everything_has_an_end() -> None:
    """Whatever takes too long ends in time; where the head was there, the status counts."""
    released = threading.Event()
    async with (
        Peer(hang) as hanging,
        Peer(stare) as staring,
        Peer(trickling(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n")) as slow_head,
        Peer(trickling(ok("Content-Length: 9999", status="202 Well"), b"x")) as slow_body,
        Peer(answering(ok(status="201 Made"))) as no_length,
        Client(timeout=1.0, look_up=lambda _: released.wait(10) and []) as client,
    ):
        late = Answer(None, "timeout")
        cases: list[tuple[str, bytes, Answer]] = [
            (hanging.url, b"", late),
            (staring.url, LARGE, late),
            (staring.url.replace("http:", "https:"), b"", late),  # says nothing in the handshake
            ("http://unanswered.example/", b"", late),
            (slow_head.url, b"", late),
            (slow_body.url, b"", Answer(202)),
            (no_length.url, b"", Answer(201)),
        ]
        answers = await asyncio.gather(*(post(client, url, body) for url, body, _ in cases))
        assert answers == [expected for *_, expected in cases]
        assert not late.is_unreachable
        for peer in (hanging, slow_head, slow_body, no_length):
            await peer.until(lambda peer: peer.ended == peer.connections == 1)
        released.set()


@on_both_loops
async def test_those_who_hang_stop_nobody() -> None:
    """Neither many POSTs without an answer nor more hanging look-ups than there are threads for them."""

    def look_up(host: str) -> Sequence[str]:
        if "hanging" in host:
            released.wait()
        return ["127.0.0.1"]

    released = threading.Event()
    async with Peer(hang) as hanging, Peer(answering(OK)) as peer, Client(look_up=look_up) as client:
        named = f"http://lively.example:{peer.port}/"
        assert await post(client, named) == Answer(200)
        others = [asyncio.create_task(post(client, hanging.url)) for _ in range(90)]
        others += [asyncio.create_task(post(client, f"http://hanging{n}.example/")) for n in range(40)]
        await hanging.until(lambda peer: len(peer.requests) == 90)
        answers = await asyncio.gather(*(post(client, url) for url in (named, peer.url) * 30))
        assert answers == [Answer(200)] * 60
        assert not any(other.done() for other in others)
        released.set()
        await client.close()
        assert {answer.problem for answer in await asyncio.gather(*others)} <= {"closed", "connection_refused"}


@on_both_loops
async def test_an_endless_answer_costs_nothing() -> None:
    async def script(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await peer.request(reader)
        writer.write(ok(f"Content-Length: {10**12}"))
        while True:
            writer.write(LARGE[:100_000])
            await writer.drain()
            await asyncio.sleep(0)

    async with Peer(script) as peer, Client() as client:
        assert await post(client, peer.url) == Answer(200)
        await peer.until(lambda peer: peer.ended == 1)


@pytest.mark.parametrize("has_length", [True, False])
@on_both_loops
async def test_an_answer_before_all_was_sent_counts_and_does_not_leave_the_rest_in_the_connection(
    has_length: bool,
) -> None:
    async def script(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ok(*["Content-Length: 0"] * has_length, status="413 Too Large"))
        if not has_length:
            writer.write_eof()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await answered.wait()
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        await reader.read()

    answered = asyncio.Event()
    async with Peer(script) as peer, Client() as client:
        assert await post(client, peer.url, LARGE) == Answer(413)
        answered.set()
        await peer.until(lambda peer: peer.ended == 1)


@on_both_loops
async def test_idle_and_old_connections_are_closed() -> None:
    async with Peer(answering(OK)) as peer, Client(idle=0.05) as idle, Client(life=0.0) as old:
        assert await post(idle, peer.url) == Answer(200)
        await peer.until(lambda peer: peer.ended == 1)
        assert [await post(old, peer.url) for _ in range(2)] == [Answer(200)] * 2
        assert peer.connections == 3
        assert await post(idle, peer.url) == Answer(200)
        assert peer.connections == 4


@on_both_loops
async def test_the_end_of_the_client() -> None:
    async with Peer(hang) as peer, Client() as client:
        waiting = asyncio.create_task(post(client, peer.url))
        await peer.until(lambda peer: len(peer.requests) == 1)
        await client.close()
        assert await waiting == await post(client, peer.url) == Answer(None, "closed")
        assert await post(client, f"http://localhost:{peer.port}/") == Answer(None, "closed")
        assert peer.connections == 1
        assert not Answer(None, "closed").is_unreachable
        await peer.until(lambda peer: peer.ended == 1)


class Names:
    """Name servers under the test's control."""

    def __init__(self, **addresses: Sequence[str] | OSError) -> None:
        self._addresses = addresses
        self.asked: list[str] = []

    def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        found = self._addresses[host.partition(".")[0]]
        if isinstance(found, OSError):
            raise found
        return found


@on_both_loops
async def test_only_judged_addresses_are_dialled() -> None:
    """Also where a name has both kinds; and what was judged is what is dialled, without another look-up."""
    allowed = EndpointPolicy.parse("127.0.0.1/32")
    names = Names(
        inside=["169.254.169.254", "127.0.0.2", "::1", "::ffff:127.0.0.3"],
        outside=["8.8.8.8"],
        both=["::1", "127.0.0.2", "127.0.0.1", "10.0.0.1"],
        mapped=["::ffff:127.0.0.1"],
        unknown=socket.gaierror(socket.EAI_NONAME, "not known"),
    )
    async with (
        Peer(answering(OK)) as peer,
        Peer(answering(OK), "127.0.0.2", peer.port) as forbidden,
        Client(allowed, look_up=names) as client,
    ):
        for host, expected in {
            "inside": Answer(None, "endpoint_not_allowed"),
            "outside": Answer(None, "endpoint_not_allowed"),  # plain http
            "unknown": Answer(None, "dns_failed"),
            "both": Answer(200),
            "mapped": Answer(200),
        }.items():
            assert await post(client, f"http://{host}.example:{peer.port}/") == expected
            assert expected.is_unreachable is (expected.status is None)
        answers = [post(client, f"http://{host}:{peer.port}/") for host in ("127.0.0.2", "8.8.8.8", "[::1]")]
        assert {(await answer).problem for answer in answers} == {"endpoint_not_allowed"}
        assert (peer.connections, forbidden.connections) == (2, 0)
        assert len(names.asked) == 5


@on_both_loops
async def test_addresses_are_tried_in_turn() -> None:
    """One that refuses, one that takes the connection and says no more: each gets its share of the time."""
    names = Names(first=["127.0.0.9", "::1", "127.0.0.1"], none=["127.0.0.9", "::1"])
    async with Peer(answering(OK)) as peer, Client(look_up=names) as client:
        assert await post(client, f"http://first.example:{peer.port}/") == Answer(200)
        nobody = await post(client, f"http://none.example:{peer.port}/")
        assert (nobody, nobody.is_unreachable) == (Answer(None, "connection_refused"), True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key, and certificates signed with it: `good` for good.example and 127.0.0.1, and an `expired` one."""
    folder = tmp_path_factory.mktemp("certificates")
    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8
    (folder / "key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    for name, days in {"good": 1, "expired": -1}.items():
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        hosts = [x509.DNSName("good.example"), x509.IPAddress(IPv4Address("127.0.0.1"))]
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        (folder / name).write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return folder


def serving_tls(folder: Path, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / name, folder / "key")
    return context


@on_both_loops
async def test_tls(certificates: Path) -> None:
    """Only who proves to be the host of the URL is told anything."""
    good, expired = (serving_tls(certificates, name) for name in ("good", "expired"))
    trusting = ssl.create_default_context()
    for name in ("good", "expired"):
        trusting.load_verify_locations(certificates / name)

    def look_up(host: str) -> Sequence[str]:
        return ["127.0.0.1"]

    async with (
        Peer(answering(OK), tls=good) as peer,
        Peer(answering(OK), tls=expired) as old,
        Peer(grumble) as plain,
        Peer(slam) as closing,
        Client(tls=trusting, look_up=look_up) as client,
        Client(tls=None, look_up=look_up) as strict,
    ):
        for host in ("good.example", "GOOD.example", "good.example.", "127.0.0.1"):
            url = f"https://{host}:{peer.port}/hook"
            assert await post(client, url) == await post(client, url, LARGE[:2_000_000]) == Answer(200)
        assert peer.connections == 3
        heard = len(peer.requests)
        failed = Answer(None, "tls_failed")
        for client_, url in (
            (client, f"https://other.example:{peer.port}/hook"),
            (client, f"https://good.example:{old.port}/hook"),
            (client, f"https://good.example:{plain.port}/hook"),
            (client, f"https://good.example:{closing.port}/hook"),
            (strict, f"https://good.example:{peer.port}/hook"),
        ):
            assert await post(client_, url) == failed
        assert failed.is_unreachable
        assert (len(peer.requests), len(old.requests)) == (heard, 0)


@on_both_loops
async def test_an_address_that_hangs_leaves_time_for_the_next(certificates: Path) -> None:
    trusting = ssl.create_default_context(cafile=str(certificates / "good"))
    async with (
        Peer(stare, "127.0.0.2") as hanging,
        Peer(answering(OK), port=hanging.port, tls=serving_tls(certificates, "good")) as peer,
        Client(tls=trusting, timeout=1.0, look_up=lambda _: ["127.0.0.2", "127.0.0.1"]) as client,
    ):
        assert await post(client, f"https://good.example:{peer.port}/hook") == Answer(200)
        assert hanging.connections == 1


@on_both_loops
async def test_a_server_of_the_usual_kind() -> None:
    async def take(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())), status=int(request.headers["wanted"]))

    app = web.Application(client_max_size=len(LARGE))
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://localhost:{runner.addresses[0][1]}/hook"
    try:
        async with Client() as client:
            for status in (200, 202, 400, 500):
                headers = {"wanted": str(status)}
                posts = [client.post(url, LARGE[:size], headers) for size in (0, 1, 700, 70_000, 1_500_000)]
                assert await asyncio.gather(*posts) == [Answer(status)] * len(posts)
    finally:
        await runner.cleanup()
