"""Posts provider traffic, as Meta and Twilio would, to a hub that runs: a mixed load, or a named scenario."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from config.settings import Settings
from hub import app
from hub.printing import Bar, print_json, print_table, progress, say
from providers.simulator import NotAccepted, Number, Simulator, StatusPlan
from providers.simulator.ledger import Medium
from providers.simulator.mix import Mix, SignedWebhook, mixed
from providers.simulator.stories import STORIES, NotPlayableError, Stage, summary

MIXED: Final = "mixed"
SCENARIOS: Final[Mapping[str, str]] = {
    MIXED: "Many customers' messages of every kind, with repeats and disorder; the options say how many.",
    **{name: summary(story) for name, story in STORIES.items()},
}
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
    scenario: str,
    hub_url: str,
    phone_number_id: str | None = None,
    api_port: int | None = None,
    stay: float = 10.0,
    as_json: bool = False,
    **mix: Any,
) -> int:
    """Post a scenario's webhooks, signed with the secrets of these settings; 0 when all were answered 200. What came of
    it is printed, as a table or as JSON.

    They go to `phone_number_id`, or to the numbers the hub knows of. The same seed makes the same messages: posted
    again, they are repeats. With `api_port` the providers' APIs are served there, and `stay` seconds longer.
    """
    try:
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(aiohttp.ClientSession(base_url=hub_url, timeout=_TIMEOUT))
            stage = await _set_stage(session, settings, hub_url, phone_number_id, mix["seed"])
            if api_port is not None:
                await stage.simulator.start(port=api_port)
                stack.push_async_callback(stage.simulator.stop)
                stage.has_api = True
            posted = await (_play(stage, scenario) if scenario != MIXED else _mix(stage, session, Mix(**mix)))
            posted.show(as_json=as_json)
            if api_port is not None:
                say(f"the providers' APIs stay at http://127.0.0.1:{api_port} for {stay:g} s more; Ctrl-C ends them")
                await asyncio.sleep(stay)
                await stage.simulator.settle()
    except (NoTrafficError, NotPlayableError, NotAccepted, aiohttp.ClientError, OSError, ValueError) as error:
        say(str(error) or type(error).__name__)
        return 1
    return int(set(posted.answers) != {"200"})


@dataclass(frozen=True, slots=True)
class _Posted:
    """What came of it: answers by status, other figures by name, and how a table puts them."""

    scenario: str
    title: str
    answers: Mapping[str, int]
    figures: Mapping[str, float]
    rows: Sequence[tuple[str, str]]

    def show(self, *, as_json: bool) -> None:
        """Print it."""
        if as_json:
            print_json({"scenario": self.scenario, "answers": dict(self.answers), **self.figures})
            return
        answered = [(f"answered {status}", str(count)) for status, count in sorted(self.answers.items())]
        print_table((self.scenario, ""), [*self.rows[:2], *answered, *self.rows[2:]], title=self.title)


# The stage --------------------------------------------------------------------------------------------------------


async def _set_stage(
    session: aiohttp.ClientSession, settings: Settings, hub_url: str, phone_number_id: str | None, seed: int
) -> Stage:
    secret = _app_secret(settings)
    found = [_Sender(Number("+10000000000", phone_number_id), "meta", "whatsapp")] if phone_number_id else None
    senders = found or await _senders(session, settings)
    simulator = Simulator(
        numbers=list(dict.fromkeys(sender.number for sender in senders)),
        hub_url=hub_url,
        public_url=settings.reached_at,
        meta_app_secrets=[secret],
        status_plan=StatusPlan.delayed(0.05),
        seed=seed,
        **_credentials(settings),
    )
    return Stage(
        simulator,
        meta=_first(senders, "meta", "whatsapp"),
        sms=_first(senders, "twilio", "sms"),
        twilio_whatsapp=_first(senders, "twilio", "whatsapp"),
        seed=seed,
    )


@dataclass(frozen=True, slots=True)
class _Sender:
    number: Number
    provider: str
    medium: Medium


def _first(senders: Iterable[_Sender], provider: str, medium: Medium) -> Number | None:
    return next((each.number for each in senders if (each.provider, each.medium) == (provider, medium)), None)


def _app_secret(settings: Settings) -> str:
    if not settings.meta_app_secrets:
        raise NoTrafficError("set META_APP_SECRETS as the hub has it: webhooks are signed with its first secret")
    return settings.meta_app_secrets[0].get_secret_value()


def _credentials(settings: Settings) -> dict[str, Any]:
    """What the hub shows to the providers' APIs, and Twilio signs with; the simulator's own where it has none."""
    token = settings.twilio_auth_token[0].get_secret_value() if settings.twilio_auth_token else None
    meta_token = settings.meta_access_token.get_secret_value() if settings.meta_access_token else None
    known = {
        "twilio_account_sid": settings.twilio_account_sid,
        "twilio_auth_token": token,
        "meta_access_token": meta_token,
    }
    return {name: value for name, value in known.items() if value}


async def _senders(session: aiohttp.ClientSession, settings: Settings) -> list[_Sender]:
    """The numbers' senders, as the hub lists them to its operator."""
    if settings.admin_key is None and not (settings.data_dir / "admin_key").exists():
        raise NoTrafficError("set ADMIN_KEY (or DATA_DIR) as the hub has it, or say --phone-number-id")
    headers = {"Authorization": f"Bearer {app.admin_key(settings)}"}
    async with session.get("/v1/admin/numbers", params={"limit": 200}, headers=headers) as answer:
        if answer.status != 200:
            raise NoTrafficError(f"the hub does not list its numbers: HTTP {answer.status}; is ADMIN_KEY right?")
        items = (await answer.json())["items"]
    return [sender for item in items for sender in _senders_of(item)]


def _senders_of(item: Mapping[str, Any]) -> Iterator[_Sender]:
    active = [sender for sender in item["senders"] if sender["is_active"]]
    meta_id = next((sender["external_id"] for sender in active if sender["provider"] == "meta"), None)
    service = next((sender["external_id"] for sender in active if sender["external_id"].startswith("MG")), None)
    number = Number(item["e164"], meta_id, messaging_service=service)
    for sender in active:
        yield _Sender(number, sender["provider"], sender["medium"])


# A scenario -------------------------------------------------------------------------------------------------------


async def _play(stage: Stage, scenario: str) -> _Posted:
    """Play it step by step; gives how its webhooks were answered. Raises what stops it."""
    began = time.perf_counter()
    stage.simulator.poster.meta_tries = 1
    try:
        with progress(f"playing {scenario}", None):
            await STORIES[scenario](stage)
    finally:
        if not stage.has_api:
            await stage.simulator.stop()
    lost = sum(posted.status is None for posted in stage.simulator.posted)
    answers = Counter(str(posted.status) for posted in stage.simulator.posted if posted.status is not None)
    seconds = round(time.perf_counter() - began, 1)
    rows = [*([("lost on purpose", str(lost))] if lost else []), ("seconds", f"{seconds:.1f}")]
    return _Posted(scenario, SCENARIOS[scenario], answers, {"lost": lost, "seconds": seconds}, rows)


# A mixed load -----------------------------------------------------------------------------------------------------


async def _mix(stage: Stage, session: aiohttp.ClientSession, mix: Mix) -> _Posted:
    """Post it, `mix.concurrency` webhooks at a time, each once; gives how they were answered."""
    load = list(mixed(stage, mix))
    tally, waiting = _Tally(), iter(load)
    began = time.perf_counter()
    with progress("posting", len(load)) as bar:
        await asyncio.gather(*(_post(session, waiting, tally, bar) for _ in range(mix.concurrency)))
    tally.elapsed = time.perf_counter() - began
    await stage.simulator.settle()
    return _posted(tally, mix)


async def _post(session: aiohttp.ClientSession, load: Iterator[SignedWebhook], tally: _Tally, bar: Bar) -> None:
    for webhook in load:
        tally.messages += webhook.messages
        began = time.perf_counter()
        try:
            async with session.post(webhook.path, data=webhook.raw, headers=webhook.headers) as answer:
                await answer.read()
                tally.answers[str(answer.status)] += 1
        except (aiohttp.ClientError, TimeoutError):
            tally.answers[_UNANSWERED] += 1
        tally.seconds.append(time.perf_counter() - began)
        bar.step()


def _posted(tally: _Tally, mix: Mix) -> _Posted:
    whom = "Meta" if not mix.twilio else "Twilio" if mix.twilio == 1 else "Meta and Twilio"
    rate, p50, p99 = tally.messages / tally.elapsed, _percentile(tally.seconds, 0.5), _percentile(tally.seconds, 0.99)
    figures = {
        "webhooks": len(tally.seconds),
        "messages": tally.messages,
        "messages_per_second": round(rate),
        "p50_ms": round(p50, 1),
        "p99_ms": round(p99, 1),
    }
    rows = [
        ("webhooks", str(len(tally.seconds))),
        ("messages in them, repeats included", str(tally.messages)),
        ("messages a second", f"{rate:.0f}"),
        ("p50", f"{p50:.1f} ms"),
        ("p99", f"{p99:.1f} ms"),
    ]
    return _Posted(MIXED, f"Posted as {whom}", tally.answers, figures, rows)


def _percentile(seconds: list[float], part: float) -> float:
    """In milliseconds."""
    ranked = sorted(seconds)
    return ranked[min(int(len(ranked) * part), len(ranked) - 1)] * 1000 if ranked else 0.0
