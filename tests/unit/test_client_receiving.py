"""Webhooks taken by the adapters, and what is remembered of them over restarts, threads and processes."""

import asyncio
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

import partyline_client as client
from hub.domain.signing import new_secret, secret_key, sign
from partyline_client import Event, Missing, Receiver, Sequences, Store, asgi
from partyline_client.aiohttp import webhook

ROOT = Path(__file__).parents[2]
SECRET = new_secret()
NOW = 1_800_000_000
RECEIVER = Receiver(SECRET, clock=lambda: NOW)
Post = Callable[..., Awaitable[int]]


def webhook_of(number: int = 1, **more: Any) -> tuple[bytes, dict[str, str]]:
    """A webhook as the hub posts it: body and headers."""
    data = {"event_id": f"evt_{number}", "conversation": {"id": "cnv_1", "sequence": number}, **more}
    body = json.dumps({"type": "message.received", "timestamp": "2026-11-21T23:28:21Z", "data": data}).encode()
    signatures = sign([secret_key(SECRET)], f"evt_{number}", NOW, body)
    headers = {"webhook-id": f"evt_{number}", "webhook-timestamp": str(NOW), "webhook-signature": signatures}
    return body, headers


async def over_aiohttp(work: Any, play: Callable[[Post], Awaitable[None]], **options: Any) -> None:
    app = web.Application(client_max_size=10_000)
    app.add_routes([web.post("/partyline", webhook(RECEIVER, work, **options))])
    async with TestClient(TestServer(app)) as session:

        async def post(body: bytes, headers: dict[str, str]) -> int:
            async with session.post("/partyline", data=body, headers=headers) as answer:
                return answer.status

        await play(post)


async def over_asgi(work: Any, play: Callable[[Post], Awaitable[None]], **options: Any) -> None:
    app = asgi.webhook(RECEIVER, work, **options)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as session:  # type: ignore[arg-type]

        async def post(body: bytes, headers: dict[str, str]) -> int:
            return (await session.post("/partyline", content=body, headers=headers)).status_code

        assert (await session.get("/partyline")).status_code == 405
        await play(post)


@pytest.mark.parametrize("over", [over_aiohttp, over_asgi])
async def test_webhooks_are_verified_worked_on_once_and_answered(over: Any, caplog: pytest.LogCaptureFixture) -> None:
    raised: dict[str, Exception] = {
        "evt_2": KeyError("what Mia wrote"),
        "evt_3": client.Rejected("what Mia wrote"),
        "evt_4": client.Later(seconds=9),
        "evt_5": ConnectionRefusedError("what Mia wrote"),
    }
    heard: list[str] = []
    gaps: list[Missing] = []

    async def work(event: Event) -> None:
        if event.id in raised:
            raise raised.pop(event.id)
        heard.append(event.id)

    async def play(post: Post) -> None:
        assert [await post(*webhook_of(1)) for _ in range(2)] == [200, 200]
        assert [await post(*webhook_of(n)) for n in (2, 3, 4, 5)] == [500, 422, 503, 503]
        assert [await post(*webhook_of(n)) for n in (2, 3, 4, 5, 8)] == [200] * 5
        body, headers = webhook_of(9)
        assert await post(body + b" ", headers) == 401
        assert await post(body, headers | {"webhook-timestamp": str(NOW - 900)}) == 401
        assert await post(b"", {}) == 401
        assert await post(*webhook_of(9, message={"text": "x" * 6_000})) == 413

    await over(work, play, max_bytes=5_000, sequences=Sequences(), on_gap=lambda _, missing: gaps.append(missing))
    assert heard == ["evt_1", "evt_2", "evt_3", "evt_4", "evt_5", "evt_8"]
    assert gaps == [Missing(6, 7)]
    told = [record.getMessage() for record in caplog.records if record.name == "partyline_client"]
    assert any(line.startswith("message.received evt_2 answered 500: KeyError\n") for line in told)
    assert any("answered 401: BadSignature: " in line for line in told)
    assert not any("Mia" in line or "xxx" in line for line in told)


async def test_so_many_events_are_worked_on_at_a_time() -> None:
    now, most = 0, 0

    async def work(_: Event) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1

    async def play(post: Post) -> None:
        assert set(await asyncio.gather(*(post(*webhook_of(n)) for n in range(1, 20)))) == {200}

    await over_asgi(work, play, concurrency=3)
    assert most == 3


async def asgi_said(scope: dict[str, Any], *received: dict[str, Any]) -> list[dict[str, Any]]:
    """What the application sends, given these messages."""
    waiting, sent = list(received), []

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def work(_: Event) -> None:
        pass

    await asgi.webhook(RECEIVER, work)(scope, receive, send)  # type: ignore[arg-type]
    return sent


async def test_asgi_by_the_letter() -> None:
    body, named = webhook_of()
    headers = [(name.encode(), value.encode()) for name, value in named.items()]
    scope = {"type": "http", "method": "POST", "headers": headers}
    chunks = [{"type": "http.request", "body": body[:9], "more_body": True}, {"type": "http.request", "body": body[9:]}]
    start, end = await asgi_said(scope, *chunks)
    assert (start["type"], start["status"], end["type"]) == ("http.response.start", 200, "http.response.body")
    assert await asgi_said(scope, chunks[0], {"type": "http.disconnect"}) == []
    start, _ = await asgi_said(scope | {"headers": []}, *chunks)
    assert (start["status"], start["headers"]) == (401, [(b"content-length", b"0")])
    start, _ = await asgi_said(scope | {"method": "GET"})
    assert (b"allow", b"POST") in start["headers"]
    lived = await asgi_said({"type": "lifespan"}, {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    assert [message["type"] for message in lived] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    with pytest.raises(RuntimeError, match="websocket"):
        await asgi_said({"type": "websocket"})


# What is remembered -------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "service.db"


def test_it_is_there_after_a_restart_and_its_owners_alone(path: Path) -> None:
    store = Store(path)
    with store.seen.handling("evt_1") as is_new:
        assert is_new
    with pytest.raises(ValueError), store.seen.handling("evt_2"):  # noqa: PT011
        raise ValueError
    for number in (1, 2, 5):
        store.sequences.note("cnv_1", number)
    assert store.position().after is None
    store.position().save("here")
    store.position("stream").save("there")
    store.secrets.add("+1", "whsec_b25l")
    store.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    again = Store(path)
    for event_id, expected in (("evt_1", False), ("evt_2", True), ("evt_2", False)):
        with again.seen.handling(event_id) as is_new:
            assert is_new is expected
    assert again.sequences.missing("cnv_1") == (Missing(3, 4),)
    assert again.sequences.note("cnv_1", 7).missing == Missing(6, 6)
    again.position().save("further")
    assert (again.position().after, again.position("stream").after) == ("further", "there")
    assert again.secrets() == ["whsec_b25l"]
    again.close()


def test_work_that_died_is_new_again_after_its_lease(path: Path) -> None:
    now = 0.0
    died, lives = (Store(path, lease=60, keep=100, clock=lambda: now) for _ in range(2))
    assert died.seen._begin("evt_1", "who died")
    for now, is_taken in ((0, False), (59, False), (60, True)):
        with suppress(client.InProgress), lives.seen.handling("evt_1") as is_new:
            assert is_new
            assert is_taken
        assert is_taken or now < 60
    with lives.seen.handling("evt_1") as is_new:
        assert not is_new
    now = 200.0
    for number in range(500):  # now and then, what is old goes
        with lives.seen.handling(f"evt_x{number}"):
            pass
    with lives.seen.handling("evt_1") as is_new:
        assert is_new
    died.close()
    lives.close()


def test_old_secrets_count_as_long_as_the_hub_signs_with_them(path: Path) -> None:
    now = 0.0
    store = Store(path, clock=lambda: now)
    store.secrets.add("+1", "whsec_b25l")
    store.secrets.add("+2", "whsec_dHdv")
    now = 10.0
    store.secrets.add("+1", "whsec_dHJlZQ==", 60)
    assert store.secrets.of("+1") == ["whsec_dHJlZQ==", "whsec_b25l"]
    assert set(store.secrets()) == {"whsec_dHJlZQ==", "whsec_b25l", "whsec_dHdv"}
    now = 70.0
    assert store.secrets.of("+1") == ["whsec_dHJlZQ=="]
    assert store.secrets.of("+3") == []
    store.close()


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 25), st.booleans()), max_size=40))
def test_stored_sequences_are_as_those_in_memory(steps: list[tuple[str, int, bool]]) -> None:
    store, memory = Store(), Sequences()
    for name, number, is_replay in steps:
        found = store.sequences.note(name, number, is_replay=is_replay)
        assert found == memory.note(name, number, is_replay=is_replay)
        assert store.sequences.missing(name) == memory.missing(name)
    store.close()


DELIVER = """
import sys
from contextlib import suppress
from partyline_client import InProgress, Store

def deliver(path, worked, fails=False):
    store = Store(path)
    for number in range(60):
        with suppress(InProgress, ValueError), store.seen.handling(f"evt_{number}") as is_new:
            if is_new and fails and number % 2:
                raise ValueError
            if is_new:
                with open(worked, "a") as file:
                    file.write(f"{number}\\n")
    store.close()

if len(sys.argv) == 3:
    deliver(*sys.argv[1:])
"""


def test_processes_and_threads_that_share_it_work_on_each_once(path: Path, tmp_path: Path) -> None:
    worked, names = tmp_path / "worked", dict[str, Any]()
    exec(DELIVER, names)
    deliver = names["deliver"]
    command = (sys.executable, "-W", "error", "-c", DELIVER, path, worked)
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]
    threads = [threading.Thread(target=deliver, args=(path, worked, n == 0)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait() for process in processes] == [0, 0]
    deliver(path, worked)  # what was somebody else's, and failed there
    assert sorted(map(int, worked.read_text().split())) == list(range(60))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_store_that_is_forked_opens_its_file_anew(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(path)
    before = store._connection
    monkeypatch.setattr(os, "getpid", lambda: -1)
    store.position().save("here")
    assert store._connection is not before
    assert store.position().after == "here"
    before.close()
    store.close()
