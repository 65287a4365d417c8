"""Parts of the delivery client that need no network: reading answers, waiting as told, looking names up."""

import asyncio
import itertools
import socket
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.endpoints import EndpointPolicy
from hub.fanout import dialing
from hub.fanout.client import _Target, _target
from hub.fanout.dialing import DialError, Origin, Resolver
from hub.fanout.http1 import LONGEST_RETRY_AFTER, Answer, Connection, retry_after

HEAD = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n"
WIRES = [
    HEAD + b"Content-Length: 3\r\n\r\nabc",
    HEAD + b"Content-Length: 3\r\n\r\nabcd",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nnone\r\n\r\n",
    HEAD + b"Connection: close\r\nContent-Length: 0\r\n\r\n",
    HEAD + b"\r\nuntil the end",
    b"HTTP/1.1 100 Continue\r\nRetry-After: 9\r\n\r\n" + HEAD + b"Content-Length: 0\r\n\r\n",
    HEAD + b"X: " + b"x" * 16_500 + b"\r\n\r\n",
    HEAD + b"Content-Length: 17000\r\n\r\n" + b"x" * 17_000,
    HEAD + b"Content-Length: 0\r\n\r\n" + HEAD,
    HEAD + b"X: y\r\nContent-",
    b"HTTP/1.1 200",
    b"nothing like it",
    b"",
]


class Line(asyncio.Transport):
    """A transport that leads nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.is_open = True

    def write(self, data: Any) -> None:
        """Sent."""

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        self.is_open = False


async def heard(pieces: Sequence[bytes]) -> tuple[Answer, bool]:
    """What a connection makes of an answer in such pieces, before the other side closes, and whether it stays open."""
    line, connection = Line(), Connection()
    connection.connection_made(line)
    waiting = connection.send(b"", b"", 60)
    for piece in pieces:
        if line.is_open:
            connection.data_received(piece)
    is_open = line.is_open and waiting.done()
    connection.connection_lost(None)
    return waiting.result(), is_open


@given(st.sampled_from(WIRES), st.sets(st.integers(1, 17_100), max_size=8))
def test_an_answer_is_the_same_in_whatever_pieces_it_comes(wire: bytes, cuts: set[int]) -> None:
    at = [0, *sorted(cut for cut in cuts if cut < len(wire)), len(wire)]
    pieces = [wire[begin:end] for begin, end in itertools.pairwise(at) if begin < end]

    async def both() -> None:
        assert await heard(pieces) == await heard([wire] if wire else [])

    asyncio.run(both())


async def test_what_such_answers_mean() -> None:
    busy, bad = Answer(503, None, 7.0), Answer(None, "bad_answer")
    expected = [(busy, True), (busy, False), (busy, True), (busy, False), (busy, False), (busy, False), (busy, True)]
    expected += [(bad, False), (busy, False), (busy, False), (bad, False), (bad, False), (bad, False)]
    assert [await heard([wire]) for wire in WIRES[:-1]] == expected


def in_seconds(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("0", 0, 0),
        (" 120 ", 120, 120),
        ("86401", LONGEST_RETRY_AFTER, LONGEST_RETRY_AFTER),
        ("9" * 5000, LONGEST_RETRY_AFTER, LONGEST_RETRY_AFTER),
        pytest.param(in_seconds(7200), 3600, 7200, id="in two hours"),
        pytest.param(in_seconds(-3600), 0, 0, id="an hour ago"),
        pytest.param(in_seconds(1e6), LONGEST_RETRY_AFTER, LONGEST_RETRY_AFTER, id="in days"),
        ("Wed, 21 Oct 2015 07:28:00 -0000", 0, 0),
    ],
)
def test_retry_after(value: str, least: float, most: float) -> None:
    seconds = retry_after(value)
    assert seconds is not None
    assert least <= seconds <= most


@pytest.mark.parametrize(
    "value",
    [
        "",
        "-1",
        "1.5",
        "soon",
        "nan",
        "inf",
        "²",
        "1_0",
        "Wed, 99 Oct 2015 07:28:00 GMT",
        f"1 Oct 2015 07:28 +{'9' * 30}",
    ],
)
def test_retry_after_that_is_none(value: str) -> None:
    assert retry_after(value) is None


@given(st.text(max_size=40))
def test_any_retry_after_is_read_or_ignored(value: str) -> None:
    seconds = retry_after(value)
    assert seconds is None or 0 <= seconds <= LONGEST_RETRY_AFTER


@pytest.mark.parametrize(
    ("url", "origin", "begins"),
    [
        ("https://a.example", ("a.example", 443, False), "POST / HTTP/1.1\r\nHost: a.example\r\n"),
        ("https://a.example:443/x", ("a.example", 443, False), "POST /x HTTP/1.1\r\nHost: a.example\r\n"),
        ("https://a.example:80?y", ("a.example", 80, False), "POST /?y HTTP/1.1\r\nHost: a.example:80\r\n"),
        ("HTTP://A.example/?", ("a.example", 80, True), "POST /? HTTP/1.1\r\nHost: a.example\r\n"),
        ("http://[::1]/[x]@y:9", ("::1", 80, True), "POST /[x]@y:9 HTTP/1.1\r\nHost: [::1]\r\n"),
        ("http://[::1]:81/", ("::1", 81, True), "POST / HTTP/1.1\r\nHost: [::1]:81\r\n"),
    ],
)
def test_where_a_url_leads(url: str, origin: tuple[str, int, bool], begins: str) -> None:
    target = _target(EndpointPolicy.parse("on"), url)
    assert isinstance(target, _Target)
    assert target.origin == Origin(*origin)
    assert target.head.startswith(begins)


@pytest.mark.parametrize(
    ("addresses", "order"),
    [("a b", "a b"), ("a :b :c d e", "a :b d :c e"), (":a :b c", ":a c :b"), (":a", ":a")],
)
def test_families_of_addresses_alternate(addresses: str, order: str) -> None:
    assert dialing._alternated(addresses.split()) == order.split()


class Names:
    """Name servers and a clock under the test's control."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked: list[str] = []
        self.answer: Callable[[str], Sequence[str]] = lambda _: ["192.0.2.1"]
        self.resolver = Resolver(self.look_up, lambda: self.now)

    def look_up(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        return self.answer(host)


def failing(error: OSError) -> Callable[[str], Sequence[str]]:
    def look_up(host: str) -> Sequence[str]:
        raise error

    return look_up


NOT_KNOWN = socket.gaierror(socket.EAI_NONAME, "not known")
NO_SERVER = socket.gaierror(socket.EAI_AGAIN, "no name server answers")


async def test_look_ups_are_shared_and_count_for_a_while() -> None:
    names = Names()
    gate = threading.Event()
    names.answer = lambda _: (gate.wait(10) and ["192.0.2.1"]) or []
    waiting = [asyncio.create_task(names.resolver.resolve("a.example")) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    gate.set()
    assert await waiting[1] == await waiting[2] == ["192.0.2.1"]
    names.now += 9.9
    await names.resolver.resolve("a.example")
    assert names.asked == ["a.example"]
    names.now += 0.1
    names.answer = lambda _: ["192.0.2.2"]
    assert await names.resolver.resolve("a.example") == ["192.0.2.2"]
    names.resolver.close()


async def test_former_addresses_count_while_no_name_server_answers_but_not_once_the_name_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dialing, "_PATIENCE", 0.01)
    names, gate = Names(), threading.Event()
    await names.resolver.resolve("a.example")
    names.now += 20
    names.answer = failing(NO_SERVER)
    assert await names.resolver.resolve("a.example") == ["192.0.2.1"]
    names.answer = lambda _: (gate.wait(10) and ["192.0.2.2"]) or []
    assert await names.resolver.resolve("a.example") == ["192.0.2.1"]
    gate.set()
    monkeypatch.setattr(dialing, "_PATIENCE", 10)
    assert await names.resolver.resolve("a.example") == ["192.0.2.2"]
    names.now += 20
    names.answer = failing(NOT_KNOWN)
    with pytest.raises(socket.gaierror, match="not known"):
        await names.resolver.resolve("a.example")
    names.now += 4000
    names.answer = failing(NO_SERVER)
    with pytest.raises(socket.gaierror, match="no name server"):
        await names.resolver.resolve("a.example")
    names.resolver.close()


async def test_names_that_hang_keep_the_threads_of_the_others_only_once() -> None:
    names, gate = Names(), threading.Event()
    slow = [f"slow{n}.example" for n in range(40)]

    def takes_long(_: str) -> Sequence[str]:
        names.now += 3
        raise NO_SERVER

    def hangs(host: str) -> Sequence[str]:
        if host.startswith("slow"):
            gate.wait(10)
        return ["192.0.2.1"]

    names.answer = takes_long
    for host in slow:
        with pytest.raises(socket.gaierror):
            await names.resolver.resolve(host)
    names.answer = hangs
    waiting = [asyncio.create_task(names.resolver.resolve(host)) for host in slow]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert await names.resolver.resolve("never.asked.before.example") == ["192.0.2.1"]
    names.resolver.close()
    gate.set()
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(end, DialError) and end.problem == "closed" for end in ended)
