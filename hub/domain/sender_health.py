"""How a sender is: what is wrong with it by stable code, and what makes that come and go."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

State = Literal["ok", "degraded", "down"]
Source = Literal["webhook", "send", "report", "check", "silence"]

DOWN: Final = frozenset(
    {"token_revoked", "permission_missing", "account_restricted", "sender_not_registered", "payment_required"}
)
"""With one of these nothing can be sent; with any other problem it works, but not as it should."""
CODES: Final = (
    *sorted(DOWN), "quality_low", "quality_red", "limit_reached", "throttled", "fields_missing", "webhook_elsewhere",
    "callbacks_silent", "unreachable", "name_declined", "security_alert", "two_step_pin_off", "account_limited",
    "account_violation", "account_disable_scheduled", "account_in_review",
)  # fmt: skip
"""Every problem the hub itself knows; a provider's notice may bring others."""
CALM: Final = timedelta(minutes=5)
"""How long after the last throttling a success is a sign that it is over."""
STANDING: Final = timedelta(minutes=30)
"""How long a success disproves nothing of what a check or a status found last: providers take messages that they refuse
afterwards, and answers to customers where they take nothing else.
"""
FADING: Final = {
    "throttled": timedelta(minutes=10),
    "security_alert": timedelta(days=7),
    "account_violation": timedelta(days=7),
    "account_limited": timedelta(days=30),
    "account_disable_scheduled": timedelta(days=30),
}
"""What nobody withdraws for certain, and how long after it was heard last a check forgets it."""
_AGAIN: Final = timedelta(minutes=1)
"""How long what is heard again is not written down again."""

_DISPROVED: Final = DOWN | {"unreachable", "throttled"}
_FACTS_OF: Final = {
    "quality_low": "quality",
    "quality_red": "quality",
    "account_restricted": "restrictions",
    "account_limited": "restrictions",
    "name_declined": "name_status",
}
"""Facts that hold no more when a problem is over, unless they are told anew."""
_TOLD_FACTS: Final = ("quality", "messaging_limit")
_OF_CODE: Final = {code: code for code in DOWN} | {"permission_denied": "permission_missing", "throttled": "throttled"}
_ELSEWHERE: Final = frozenset({"21408", "130497", "30018", "30024", "138000"})
"""Providers' codes for which the sender is well: they forbid a country or a carrier of the customer's, or calls."""

_SHOWN_FACTS: Final = frozenset(
    {"quality", "messaging_limit", "name_status", "restrictions", "status", "throughput", "verified_name"}
)
"""Facts that services see."""
_OPERATORS: Final = {
    "fields_missing": "Not all that the provider can tell comes to this hub: its operator sees what is missing.",
    "webhook_elsewhere": "The provider's webhooks go elsewhere, not to this hub: its operator sees where.",
    "unreachable": "The provider does not answer the hub's questions: its operator sees why.",
    "permission_missing": "The hub's credentials lack a permission: its operator sees which.",
    "security_alert": "The provider warns of the account's security: the operator of the hub sees of what.",
    "two_step_pin_off": "A safeguard of the number is off: the operator of the hub sees which.",
}
"""What services see of problems whose details are for nobody else: accounts, addresses, credentials, safeguards."""
_SENTENCES: Final = {
    "token_revoked": "The provider takes the credentials no more: make new ones and configure them.",
    "permission_missing": "The credentials may not send with this sender: give their owner the permission to.",
    "account_restricted": "The provider has restricted the account: see its messages to you, and appeal there.",
    "sender_not_registered": "The provider does not know this sender: register it there, or correct its external_id.",
    "payment_required": "The provider wants to be paid first: put its means of payment in order.",
    "throttled": "The provider takes fewer messages than are to be sent: they wait and are sent more slowly.",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong: `since` when it holds, and when it was `seen` last, by which source."""

    detail: str
    since: datetime
    source: str
    seen: datetime


@dataclass(frozen=True, slots=True)
class Health:
    """Problems by code, and facts as the provider tells them; `heard`: the provider's time of its last notice of each
    topic.
    """

    problems: Mapping[str, Problem] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    heard: Mapping[str, datetime] = field(default_factory=dict)

    @property
    def state(self) -> State:
        """What it comes to."""
        if self.problems.keys() & DOWN:
            return "down"
        return "degraded" if self.problems else "ok"


@dataclass(frozen=True, slots=True)
class News:
    """What a source says: problems with a sentence each, codes that do not hold (any more), facts."""

    source: Source
    raises: Mapping[str, str] = field(default_factory=dict)
    clears: Collection[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)


def take(health: Health, news: News, at: datetime) -> Health:
    """The health after these news of the time `at`; the same object where they change nothing.

    A problem is one, whoever tells of it, and is over when anybody says so who can tell: a check for what it judged,
    a send that worked for what would have kept it from working, the provider for what it withdraws.
    """
    problems = {code: problem for code, problem in health.problems.items() if code not in news.clears}
    for code, detail in news.raises.items():
        known = health.problems.get(code)
        problems[code] = known if known and at - known.seen < _AGAIN else _raised(known, detail, news.source, at)
    gone = {_FACTS_OF.get(code) for code in health.problems.keys() - problems.keys()}
    facts = {name: value for name, value in health.facts.items() if name not in gone} | dict(news.facts)
    if problems == health.problems and facts == health.facts:
        return health
    return replace(health, problems=problems, facts=facts)


def _raised(known: Problem | None, detail: str, source: Source, at: datetime) -> Problem:
    return Problem(detail, known.since if known else at, source, at)


def take_notice(health: Health, topic: str, news: News, at: datetime | None, now: datetime) -> Health:
    """As `take`, of a notice by webhook: one that is older than the last of its topic changes nothing."""
    told = min(at, now) if at else now
    last = health.heard.get(topic)
    if last is not None and told < last:
        return health
    return replace(take(health, news, told), heard={**health.heard, topic: told})


def is_worth_telling(before: Health, after: Health) -> bool:
    """Whether services are to hear of it: of problems that come and go, of quality and limits that change."""
    if before.problems.keys() != after.problems.keys():
        return True
    return any(before.facts.get(name) != after.facts.get(name) for name in _TOLD_FACTS if name in before.facts)


def news_of_refusal(code: str, provider_code: str | None, scope: str | None) -> News | None:
    """What a provider's refusal of a message says of its sender; None where it is about the message or the customer."""
    problem = _OF_CODE.get(code)
    if problem is None or provider_code in _ELSEWHERE or scope == "pair":
        return None
    said = f" It says {provider_code}." if provider_code else ""
    return News("send", raises={problem: _SENTENCES[problem] + said})


def news_of_success(health: Health, now: datetime) -> News:
    """What a message that the provider took disproves."""
    stands = {code for code, problem in health.problems.items() if now - problem.seen < _stands(code, problem)}
    return News("send", clears=_DISPROVED - stands)


def _stands(code: str, problem: Problem) -> timedelta:
    """How long a success is no sign that it is over."""
    if problem.source in ("check", "report"):
        return STANDING
    return CALM if code == "throttled" else timedelta(0)


def news_of_check(
    health: Health, problems: Mapping[str, str], judged: Collection[str], facts: Mapping[str, str], now: datetime
) -> News:
    """What a provider's answer to a check says: what was judged and found well is over."""
    faded = {
        code for code, age in FADING.items() if code in health.problems and now - health.problems[code].seen >= age
    }
    over = (set(judged) - problems.keys()) | {"unreachable"} | faded
    return News("check", raises=problems, clears=over, facts=facts)


def news_of_failed_check(code: str, provider_code: str | None, detail: str, failures: int) -> News | None:
    """What it says that the provider could not be asked, so many times in a row; once may be chance."""
    told = news_of_refusal(code, provider_code, None)
    if told is not None and "throttled" not in told.raises:
        return News("check", raises=told.raises)
    if failures < 2:
        return None
    reason = detail[:200] or code
    return News("check", raises={"unreachable": f"The provider could not be asked {failures} times in a row: {reason}"})


def health_view(health: Health, *, in_full: bool = False) -> dict[str, Any]:
    """The health as services see it, or `in_full` as the operator does: with accounts, addresses and what the hub's
    credentials may do.
    """
    problems = [
        {
            "code": code,
            "detail": problem.detail if in_full else _OPERATORS.get(code, problem.detail),
            "since": problem.since,
        }
        for code, problem in sorted(health.problems.items())
    ]
    facts = {name: value for name, value in health.facts.items() if in_full or name in _SHOWN_FACTS}
    return {"state": health.state, "problems": problems, "facts": facts}
