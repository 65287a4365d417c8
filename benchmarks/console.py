"""Server time of every page of the console, on a database of 100,000 messages."""

import asyncio
import contextlib
import http.client
import itertools
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from benchmarks import servers, traffic
from benchmarks.bench import Bench
from benchmarks.report import Row, at_most
from benchmarks.servers import LINK_HOST, REDIRECT_TARGET, Hub, Member
from benchmarks.traffic import Line
from providers.simulator import Number, Simulator

MESSAGES, CUSTOMERS, REPLIES, CAMPAIGN, UNKNOWN = 100_000, 5_000, 5_000, 1_000, 300
CAMPAIGN_NAME = "Spring sale"
VISITS = 20
"""How often each page is asked for, after two visits that warm it."""
GOAL = 300
"""Milliseconds (the slowest of the visits)."""
_LINK = re.compile(rf"https://{re.escape(LINK_HOST)}(/[^ ]+)")
_BROWSER = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 Safari/537.36"
)
_SCOPES = ["read", "reply", "automate", "profiles"]
_SETTINGS = {
    "agent_per_minute": "0",
    "service_per_minute": "0",
    "new_conversations_per_hour": "0",
    "whatsapp_rate": "1000",
    "whatsapp_pair_burst": "100",
}


@dataclass(frozen=True)
class _World:
    hub: Hub
    lines: tuple[Line, Line]
    parent: Member
    other: Member


def measure(bench: Bench) -> list[Row]:
    """Every page as the operator sees it, and those a service may see as its own people do."""
    with contextlib.ExitStack() as stack:
        world = _build(bench, stack)
        whole = world.hub.call("GET", "/v1/admin/conversations?limit=1")["items"]
        assert whole, "nothing was built"
        pages = _pages(world)
        rows = _visit(world, "the operator", servers.ADMIN, pages)
        return rows + _visit(world, "a service", world.parent.key, _of_service(pages, world.parent.key, world))


# A database of many messages -----------------------------------------------------------------------------------------


def _build(bench: Bench, stack: contextlib.ExitStack) -> _World:
    lines = Line(1), Line(2)
    simulator = stack.enter_context(_simulator(lines))
    database = stack.enter_context(bench.server.database("bench_console"))
    settings = _SETTINGS | {"meta_api_url": simulator.url, "meta_access_token": simulator.meta_access_token}
    hub = stack.enter_context(servers.hub(database, bench.folder, **settings))
    simulator.hub_url = f"http://127.0.0.1:{hub.port}"
    dead = f"http://127.0.0.1:{stack.enter_context(servers.dead_port())}/"
    for line in lines:
        hub.open_line(line.index)
    endpoints = bench.sink.url("one"), bench.sink.url("two"), dead
    parent, other, _ = (hub.connect(lines[0], url, scopes=_SCOPES) for url in endpoints)
    hub.call("PUT", f"/v1/numbers/{lines[1].e164}/connection", {}, key=parent.key)
    world = _World(hub, lines, parent, other)
    customers = bench.some(CUSTOMERS, 200)
    inbound = bench.some(MESSAGES) - bench.some(REPLIES) - bench.some(CAMPAIGN)
    for line, share in zip(lines, (0.8, 0.2), strict=True):
        hub.post(traffic.batches(line, traffic.in_turn(int(inbound * share), customers)), 8)
    hub.post(traffic.batches(Line(99), traffic.in_turn(bench.some(UNKNOWN), 50), 1), 8)
    _reply(world, bench.some(REPLIES))
    _campaign(world, bench.some(CAMPAIGN))
    _await_sent(simulator, bench.some(REPLIES) + bench.some(CAMPAIGN))
    _click(hub, simulator)
    database.execute("analyze")
    return world


@contextlib.contextmanager
def _simulator(lines: tuple[Line, Line]) -> Iterator[Simulator]:
    """Meta's API, in a thread with a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    numbers = [Number(line.e164, line.phone_number_id) for line in lines]
    simulator = Simulator(numbers=numbers, meta_app_secrets=[traffic.SECRET])
    asyncio.run_coroutine_threadsafe(simulator.start(), loop).result(10)
    try:
        yield simulator
    finally:
        asyncio.run_coroutine_threadsafe(simulator.stop(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def _conversations(world: _World) -> Iterator[dict[str, Any]]:
    after = ""
    while True:
        page = world.hub.call("GET", f"/v1/conversations?limit=200{after}", key=world.parent.key)
        yield from page["items"]
        if page["next"] is None:
            return
        after = f"&after={page['next']}"


def _reply(world: _World, count: int) -> None:
    """Agents of two services answer, every other one with a link."""
    ids = itertools.cycle([conversation["id"] for conversation in itertools.islice(_conversations(world), 2_000)])

    def one(n: int) -> None:
        text = f"It is on its way: {REDIRECT_TARGET}" if n % 2 else "It is on its way."
        body = {"origin": "agent", "agent": {"id": f"a{n % 9}", "name": f"Agent {n % 9}"}, "type": "text", "text": text}
        member = world.other if n % 3 == 0 and _is_shared(world, n) else world.parent
        world.hub.call("POST", f"/v1/conversations/{targets[n]}/messages", body, key=member.key)

    targets = list(itertools.islice(ids, count))
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(one, range(count)))


def _is_shared(world: _World, n: int) -> bool:
    """The other service is connected to the first line only, and conversations are listed by age: line after line."""
    return n % 2_000 < 1_000


def _campaign(world: _World, count: int) -> None:
    """A campaign to customers who agreed, with a link; some of them follow it."""

    def one(n: int) -> None:
        phone = f"+49151{n:08}"
        world.hub.call("PUT", f"/v1/consents/whatsapp/{quote(phone)}", {"status": "granted"}, key=world.parent.key)
        body = {
            "to": phone, "medium": "whatsapp", "from": world.lines[0].e164, "origin": "campaign",
            "campaign": CAMPAIGN_NAME, "type": "text", "text": f"Our sale: {REDIRECT_TARGET}",
        }  # fmt: skip
        world.hub.call("POST", "/v1/messages", body, key=world.parent.key)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(one, range(count)))


def _await_sent(simulator: Simulator, count: int) -> None:
    """Until Meta has taken them all."""
    deadline = time.monotonic() + 300
    while len(simulator.sent) < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"of {count} messages {len(simulator.sent)} were sent in time")
        time.sleep(0.5)


def _click(hub: Hub, simulator: Simulator) -> None:
    """Every third customer who got a link follows it."""
    connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=60)
    found = (_LINK.search(send.text or "") for send in simulator.sent[::3])
    for link in filter(None, found):
        connection.request("GET", link[1], headers={"Host": LINK_HOST, "User-Agent": _BROWSER})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 302, answer.status
    connection.close()


# The pages -----------------------------------------------------------------------------------------------------------


def _pages(world: _World) -> list[str]:
    """Every page there is; of those about one thing, one that has much to show."""
    call, line = world.hub.call, world.lines[0]
    conversation = call("GET", "/v1/admin/conversations?limit=1")["items"][0]
    timeline = call("GET", f"/v1/admin/conversations/{conversation['id']}/messages?limit=200")["items"]
    answered = next(message for message in timeline if message["direction"] == "outbound")
    event = call("GET", "/v1/admin/events?limit=1")["items"][0]["data"]["event_id"]
    contact = call("GET", f"/v1/admin/contacts?address={quote('+4915100000001')}")["items"][0]["id"]
    subscriptions = call("GET", "/v1/admin/subscriptions?limit=10")["items"]
    subscription = next(one for one in subscriptions if one["role"] == "parent")
    entry = call("GET", "/v1/admin/quarantine?limit=1")["items"][0]["id"]
    campaign = quote(CAMPAIGN_NAME)
    sent = (message["id"] for message in timeline if message["direction"] == "outbound")
    links = (call("GET", f"/v1/admin/messages/{message}/links")["items"] for message in sent)
    link = next(found[0]["id"] for found in links if found)
    return [
        "", "/traffic", f"/search?{urlencode({'q': '+4915100000001'})}", f"/search?q={answered['id']}",
        "/search?q=Customer", "/conversations", f"/conversations/{conversation['id']}",
        f"/messages/{timeline[0]['id']}", f"/messages/{answered['id']}", f"/events/{event}",
        "/deliveries", "/deliveries?outcome=failed", "/deliveries/parked", "/dead-letters", "/replays",
        "/quarantine", f"/quarantine/{entry}", "/services", f"/services/{subscription['service']['id']}",
        "/numbers", f"/numbers/{quote(line.e164)}", f"/subscriptions/{subscription['id']}", "/audit",
        "/contacts", f"/contacts/{contact}", f"/contacts/{contact}/timeline", "/merge-candidates", "/campaigns",
        f"/campaigns/{campaign}?service={subscription['service']['id']}", f"/links/{link}",
    ]  # fmt: skip


_OPERATORS_ONLY = ("/quarantine", "/services", "/audit")


def _of_service(pages: list[str], key: str, world: _World) -> list[str]:
    """The pages that a service's people see, about its own."""
    own = world.hub.call("GET", "/v1/conversations?limit=1", key=key)["items"][0]["id"]
    found = [page for page in pages if not page.startswith(_OPERATORS_ONLY)]
    return [f"/conversations/{own}" if page.startswith("/conversations/") else page for page in found]


def _visit(world: _World, who: str, key: str, pages: list[str]) -> list[Row]:
    """The slowest visit of the slowest page; all pages are told on the side."""
    connection = http.client.HTTPConnection("127.0.0.1", world.hub.port, timeout=60)
    cookie = _log_in(connection, key)
    took = {page: _times(connection, cookie, page) for page in pages}
    connection.close()
    for page, times in sorted(took.items(), key=lambda each: -max(each[1])):
        usual = sorted(times)[len(times) // 2]
        print(f"  {who:13} {max(times):6.0f} ms at most, {usual:5.0f} ms usually: /console{page}", file=sys.stderr)
    slowest = max(took, key=lambda page: max(took[page]))
    middle = sorted(max(times) for times in took.values())[len(took) // 2]
    return [
        Row(
            f"console for {who}: the slowest visit to the slowest of {len(pages)} pages",
            f"{max(took[slowest]):.0f} ms: /console{slowest[:30]}",
            f"the page in the middle {middle:.0f} ms",
            at_most(max(took[slowest]), GOAL, " ms"),
        )
    ]


def _log_in(connection: http.client.HTTPConnection, key: str) -> str:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/console/login", urlencode({"key": key, "next": "/console"}), headers)
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 303, answer.status
    return (answer.getheader("Set-Cookie") or "").partition(";")[0]


def _times(connection: http.client.HTTPConnection, cookie: str, page: str) -> list[float]:
    times = []
    for _ in range(VISITS + 2):
        began = time.perf_counter()
        _get(connection, {"Cookie": cookie}, f"/console{page}")
        times.append((time.perf_counter() - began) * 1000)
    return times[2:]


def _get(connection: http.client.HTTPConnection, headers: Mapping[str, str], path: str) -> None:
    connection.request("GET", path, headers=dict(headers))
    answer = connection.getresponse()
    body = answer.read()
    is_found = answer.status == 303 and "/search" in path  # an id leads to its page
    assert answer.status == 200 or is_found, f"{path}: {answer.status} {body[:300]!r}"
