"""Redirects of tracked links a second, each click durable before its answer."""

import contextlib
import itertools
import secrets
import uuid
from collections.abc import Iterator

from benchmarks import servers
from benchmarks.bench import Bench, Spent, spent
from benchmarks.client import Result
from benchmarks.database import Database
from benchmarks.report import Row, at_least, median
from benchmarks.servers import CONNECTIONS, LINK_HOST, REDIRECT_TARGET, Served
from hub.domain.link_tokens import digest, new_token

COUNT = 20_000
LINKS = 1_000
_GOAL, _P99, _RATIO = 8_000, 25, 0.6
_IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
_AGENTS = (
    f"{_IPHONE} Version/18.5 Mobile/15E148 Safari/604.1",
    f"{_IPHONE} Mobile/15E148 WAiOS/2.25",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 Safari/537.36",
)
_LINK = """
insert into tracked_link (id, token_hash, target, medium, created_at)
select x.id::uuid, decode(x.hash, 'hex'), '{target}', 'sms', now() - interval '1 hour'
from unnest(array[{ids}], array[{hashes}]) x(id, hash)"""


def measure(bench: Bench) -> list[Row]:
    """The hub beside a bare handler that gives the same answer; then the clicks in the database are counted."""
    rates: dict[str, list[float]] = {"hub": [], "bare": []}
    tails: list[float] = []
    costs: list[Spent] = []
    count, asked = bench.some(COUNT, 1_000), 0
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(bench.server.database("bench_redirect"))
        hub = stack.enter_context(bench.process(database))
        bare = stack.enter_context(servers.bare())
        tokens = _links(database, bench.some(LINKS))
        requests = itertools.cycle(_requests(tokens))
        asked += _follow(hub, requests, 2 * len(tokens)).count  # each link is known then
        for _ in range(bench.rounds):
            rates["bare"].append(_follow(bare, requests, count).per_second)
            before = spent(bench, hub)
            result = _follow(hub, requests, count)
            costs.append(spent(bench, hub) - before)
            rates["hub"].append(result.per_second)
            tails.append(result.percentile(0.99))
            asked += result.count
        _count(database, asked)
    return [_row(rates, median(tails)), _cost(costs, count, asked)]


def _links(database: Database, count: int) -> list[str]:
    tokens = [new_token(is_personal=False) for _ in range(count)]
    ids = ", ".join(f"'{uuid.UUID(bytes=secrets.token_bytes(16))}'" for _ in tokens)
    hashes = ", ".join(f"'{digest(token).hex()}'" for token in tokens)
    database.execute(_LINK.format(target=REDIRECT_TARGET, ids=ids, hashes=hashes))
    return tokens


def _requests(tokens: list[str]) -> Iterator[bytes]:
    """One for each link, as browsers of people make them, without a cookie: every click is a new visitor's."""
    for token, agent in zip(tokens, itertools.cycle(_AGENTS), strict=False):
        lines = (
            f"GET /{token} HTTP/1.1", f"Host: {LINK_HOST}", f"User-Agent: {agent}", "Accept: text/html,*/*;q=0.8",
            "Accept-Language: de-DE,de;q=0.9", "Accept-Encoding: gzip, deflate, br", "Sec-Fetch-Dest: document",
            "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: none", "Sec-Fetch-User: ?1", "Upgrade-Insecure-Requests: 1",
        )  # fmt: skip
        yield "\r\n".join(lines).encode() + b"\r\n\r\n"


def _follow(served: Served, requests: Iterator[bytes], count: int) -> Result:
    return served.post(list(itertools.islice(requests, count)), expected=302)


def _count(database: Database, asked: int) -> None:
    """Each answer is a click, each click a visitor."""
    for table in ("click", "click_origin", "visitor"):
        found = database.value(f"select count(*) from {table}")
        assert found == asked, f"{asked} requests were answered, and {found} rows are in {table}"


def _row(rates: dict[str, list[float]], tail: float) -> Row:
    ratio = median(ours / theirs for ours, theirs in zip(rates["hub"], rates["bare"], strict=True))
    rate = median(rates["hub"])
    missed = "" if rate >= _GOAL and tail <= _P99 else ", MISSED"
    return Row(
        f"durable clicks redirected/s per process, {CONNECTIONS} connections",
        f"{rate:,.0f}/s, p99 {tail:.1f} ms (goal >= {_GOAL:,}/s, <= {_P99} ms{missed})",
        f"bare aiohttp handler, the same answer: {median(rates['bare']):,.0f}/s",
        at_least(ratio, _RATIO),
    )


def _cost(costs: list[Spent], count: int, asked: int) -> Row:
    middle = sorted(costs, key=lambda cost: cost.cpu)[len(costs) // 2]
    log = f"{middle.wal / count:,.0f} bytes of write-ahead log"
    return Row("CPU per click", middle.each(count), log, f"{asked:,} answers, as many clicks in the database")
