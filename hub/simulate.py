"""Posts provider traffic, as Meta would, to a hub that runs."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from config.settings import Settings
from hub import app
from providers.simulator import Number, mixed_load, people
from providers.simulator.meta_webhooks import encode
from providers.simulator.signing import sign_meta

_PATH: Final = "/webhooks/meta"
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30)
_UNANSWERED: Final = "never"


class NoTrafficError(Exception):
    """Nothing can be posted, and why."""


@dataclass(slots=True)
class _Tally:
    """What came of it: answers by status, and the seconds each took."""

    messages: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    elapsed: float = 0.0


async def traffic(
    settings: Settings,
    *,
    hub_url: str,
    messages: int,
    customers: int,
    batch: int,
    duplicates: float,
    reorder: float,
    seed: int,
    concurrency: int = 8,
    phone_number_id: str | None = None,
) -> int:
    """Post customer messages, signed with the first of META_APP_SECRETS; 0 when all were answered 200.

    They go to `phone_number_id`, or to every number with a sender at Meta that the hub knows of. The same seed makes
    the same messages: posted again, they are repeats.
    """
    console = Console(highlight=False)
    try:
        async with aiohttp.ClientSession(base_url=hub_url, timeout=_TIMEOUT) as session:
            secret = _app_secret(settings)
            numbers = (
                [Number("+10000000000", phone_number_id)] if phone_number_id else await _numbers(session, settings)
            )
            load = mixed_load(
                seed,
                messages,
                people(seed, customers),
                numbers=numbers,
                duplicates=duplicates,
                reorder=reorder,
                batch=batch,
                start=time.time() - messages,
            )
            tally = await _post_all(session, load, secret, concurrency)
    except (NoTrafficError, aiohttp.ClientError, OSError, ValueError) as error:
        console.print(f"[red]{escape(str(error) or type(error).__name__)}[/]", soft_wrap=True)
        return 1
    _print(console, tally)
    return int(set(tally.answers) != {"200"})


def _app_secret(settings: Settings) -> str:
    if not settings.meta_app_secrets:
        raise NoTrafficError("set META_APP_SECRETS as the hub has it: webhooks are signed with its first secret")
    return settings.meta_app_secrets[0].get_secret_value()


async def _numbers(session: aiohttp.ClientSession, settings: Settings) -> list[Number]:
    """The numbers at Meta, as the hub lists them to its operator."""
    if settings.admin_key is None and not (settings.data_dir / "admin_key").exists():
        raise NoTrafficError("set ADMIN_KEY (or DATA_DIR) as the hub has it, or say --phone-number-id")
    headers = {"Authorization": f"Bearer {app.admin_key(settings)}"}
    async with session.get("/v1/admin/numbers", params={"limit": 200}, headers=headers) as answer:
        if answer.status != 200:
            raise NoTrafficError(f"the hub does not list its numbers: HTTP {answer.status}; is ADMIN_KEY right?")
        items = (await answer.json())["items"]
    found = [
        Number(item["e164"], sender["external_id"])
        for item in items
        for sender in item["senders"]
        if sender["provider"] == "meta" and sender["is_active"]
    ]
    if not found:
        raise NoTrafficError("the hub has no number with a sender at Meta: register one, or say --phone-number-id")
    return found


async def _post_all(
    session: aiohttp.ClientSession, load: Iterator[Mapping[str, Any]], secret: str, concurrency: int
) -> _Tally:
    """Post everything, `concurrency` webhooks at a time, each once."""
    tally = _Tally()
    began = time.perf_counter()
    await asyncio.gather(*(_post(session, load, secret, tally) for _ in range(concurrency)))
    tally.elapsed = time.perf_counter() - began
    return tally


async def _post(session: aiohttp.ClientSession, load: Iterator[Mapping[str, Any]], secret: str, tally: _Tally) -> None:
    for body in load:
        raw = encode(body)
        headers = {"Content-Type": "application/json", "X-Hub-Signature-256": sign_meta(raw, secret)}
        tally.messages += _count(body)
        began = time.perf_counter()
        try:
            async with session.post(_PATH, data=raw, headers=headers) as answer:
                await answer.read()
                tally.answers[str(answer.status)] += 1
        except (aiohttp.ClientError, TimeoutError):
            tally.answers[_UNANSWERED] += 1
        tally.seconds.append(time.perf_counter() - began)


def _count(body: Mapping[str, Any]) -> int:
    return sum(len(change["value"]["messages"]) for entry in body["entry"] for change in entry["changes"])


def _print(console: Console, tally: _Tally) -> None:
    table = Table("traffic", "", title="Posted as Meta", title_justify="left")
    table.columns[1].justify = "right"
    table.add_row("webhooks", str(len(tally.seconds)))
    table.add_row("messages in them, repeats included", str(tally.messages))
    for status, count in sorted(tally.answers.items()):
        colour = "green" if status == "200" else "red"
        table.add_row(f"answered [{colour}]{status}[/]", str(count))
    table.add_row("messages a second", f"{tally.messages / tally.elapsed:.0f}")
    table.add_row("p50", f"{_percentile(tally.seconds, 0.5):.1f} ms")
    table.add_row("p99", f"{_percentile(tally.seconds, 0.99):.1f} ms")
    console.print(table)


def _percentile(seconds: list[float], part: float) -> float:
    """In milliseconds."""
    ranked = sorted(seconds)
    return ranked[min(int(len(ranked) * part), len(ranked) - 1)] * 1000
