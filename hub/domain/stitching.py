"""Whose a browser is after a click on a tracked link (rules K1 to K6 of links.md): facts in, a decision out.

A click binds only once a page of the target's site has loaded after it, in a
browser that holds the click's receipt or key; whichever of the two arrives last has it evaluated.

Settled here, because links.md leaves it open:

- The claimant of a link is the browser whose *landing* was evaluated first, under a lock of the link: a click that
  never lands claims nothing, or a scanner that looks like a person would keep the recipient out for good.
- Whoever lands first claims, also where it binds nobody (K6, a second link of a message that kept the browser out): a
  link known to be in two browsers is one no more browsers are believed on. A suspect link has no claimant.
- K4 comes before K5 and K6: a link that another browser claimed, or a suspect one, never ends anybody's binding.
- A browser kept out of one link of a message is kept out of the message's other links too: they were forwarded
  together.
- "Now" in K5 is the time of the click. What was bound after a click beats it, however late the click comes out of the
  spool.
- Where a limit stops a binding, the one it would have ended ends all the same: somebody else is at the browser.
- Bindings are made to the contact the link was sent to, merged or not, and compared by the contacts these survive as:
  so that undoing a merge gives each of them what is theirs.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from hub.domain.addresses import Address
from hub.domain.bindings import (
    REACH,
    Bind,
    Binding,
    BindingChange,
    Claim,
    End,
    Flag,
    Trust,
    last_end,
    open_binding,
    over_limits,
    survivor,
)

IDENTIFIES: Final = timedelta(days=30)
"""How long a link says who clicked: numbers are given to other people."""
REDIRECTS: Final = timedelta(days=90)
RECEIPT_LIFE: Final = timedelta(minutes=30)
KEY_LIFE: Final = timedelta(minutes=5)
VISITORS_PER_LINK: Final = 3

# Facts --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Link:
    """A tracked link. `contact_id` None: it has no recipient, or one who has not agreed. `message_id`: what it was sent
    in; a link for a message that the hub does not send counts as a message of its own.

    `is_suspect`: a foreign preview fetched it, or a limit flagged it.
    """

    id: UUID
    message_id: UUID
    contact_id: UUID | None
    created_at: datetime
    destination: Address | None = None
    is_suspect: bool = False


@dataclass(frozen=True, slots=True)
class Click:
    """A request to a link, with the classifier's verdict. `site`: the tracked site that the target is on, if any."""

    id: UUID
    at: datetime
    is_person: bool
    site: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """A `page` event that came to the collector, and what came with it.

    `is_returning`: the visitor's cookie came with a request, so the browser keeps it. `kind`: a document load, a change
    of route, or a page restored from the back-forward cache. `site`: the tracked site of its Origin. `age`: how long
    the tracker ran, by the browser's monotonic clock. `receipts`: the clicks whose receipts it carries; `key`: the one
    whose unused key it carries.
    """

    visitor_id: UUID
    is_returning: bool
    kind: Literal["load", "route", "restore"]
    site: str | None
    received_at: datetime
    age: timedelta
    receipts: Collection[UUID] = ()
    key: UUID | None = None

    @property
    def started_at(self) -> datetime:
        """When its tracker started, by the hub's clock; a little late, by the way the event took."""
        return self.received_at - self.age


@dataclass(frozen=True, slots=True)
class KeptOut:
    """A click of this browser on a link of the same contact that K4 kept to its session."""

    at: datetime
    message_id: UUID


@dataclass(frozen=True, slots=True)
class ClickFacts:
    """All that the decision on a landed click depends on, read under locks of the link and the visitor.

    `browser`: all visitors known to be the browser of the page's visitor, which is one of them (two visitors that
    showed one receipt). `claimant`: the visitor that claimed the link. `bindings`: those of the page's visitor.
    `link_visitors`: others that landed on the link, without this browser's; `contact_visitors`: others that were
    bound to the contact in the last week. `survivors`: where contacts were merged into. `may_bind`: consent.
    """

    click: Click
    page: Page
    link: Link
    browser: Collection[UUID] = ()
    claimant: UUID | None = None
    bindings: Sequence[Binding] = ()
    kept_out: Sequence[KeptOut] = ()
    link_visitors: int = 0
    contact_visitors: int = 0
    survivors: Mapping[UUID, UUID] = field(default_factory=dict)
    may_bind: bool = True


# Decisions ----------------------------------------------------------------------------------------------------------


Outcome = Literal[
    "not_a_person", "anonymous", "waiting", "no_consent", "session_only", "bound", "confirmed", "already_bound",
    "moved", "stays", "overtaken", "limited",
]  # fmt: skip
"""What a click came to: K1; K2; no landing yet; no consent; K4; K3; K4 confirmed; the contact's already; K5; K6;
something newer holds; a limit stopped it."""


@dataclass(frozen=True, slots=True)
class ClickDecision:
    """What a click comes to, why in a word, and what is to be written for it, in that order."""

    outcome: Outcome
    reason: str
    changes: tuple[BindingChange, ...] = ()


# Links and landings -------------------------------------------------------------------------------------------------


def link_life(created_at: datetime, at: datetime) -> Literal["identifies", "redirects", "expired"]:
    """What a link still does at a time: 30 days long it tells who clicked, 90 days long it leads to its target."""
    age = at - created_at
    if age > REDIRECTS:
        return "expired"
    return "identifies" if age <= IDENTIFIES else "redirects"


def site_of(host: str, sites: Iterable[str]) -> str | None:
    """The tracked site that a host is on, the narrowest where several match; None: on none."""
    host = host.rstrip(".").lower()
    return max((site for site in sites if host == site or host.endswith(f".{site}")), key=len, default=None)


def why_no_landing(click: Click, page: Page) -> str | None:
    """What is missing for this page to be where the click ended, in a word; None: it is its landing."""
    if page.kind != "load":
        return "not_a_load"
    if click.site is None or page.site != click.site:
        return "other_site"
    if click.id != page.key and click.id not in page.receipts:
        return "no_receipt"
    if page.age < timedelta(0) or page.started_at < click.at:
        return "before_the_click"
    if page.received_at - click.at > (KEY_LIFE if click.id == page.key else RECEIPT_LIFE):
        return "receipt_expired"
    return None if page.is_returning else "cookie_not_back"


# Rules K ------------------------------------------------------------------------------------------------------------


def stitch(facts: ClickFacts) -> ClickDecision:
    """What a click and the page after it say about whose browser this is."""
    link, click = facts.link, facts.click
    if not click.is_person:
        return ClickDecision("not_a_person", "not_a_person")
    if link.contact_id is None:
        return ClickDecision("anonymous", "no_recipient")
    if link_life(link.created_at, click.at) != "identifies":
        return ClickDecision("anonymous", "past_30_days")
    if missing := why_no_landing(click, facts.page):
        return ClickDecision("waiting", missing)
    if not facts.may_bind:
        return ClickDecision("no_consent", "no_consent")
    return _stitch_landed(facts, link.contact_id)


def _stitch_landed(facts: ClickFacts, contact_id: UUID) -> ClickDecision:
    # Once: a link that was passed around must not fill its contact's ledger.
    is_crowd = facts.link_visitors >= VISITORS_PER_LINK
    crowd = (Flag("link", facts.link.id),) if is_crowd and not facts.link.is_suspect else ()
    is_free = facts.claimant is None and not facts.link.is_suspect and not is_crowd
    claim = (Claim(facts.link.id, facts.page.visitor_id),) if is_free else ()
    current, since = open_binding(facts.bindings), last_end(facts.bindings)
    if current and survivor(current.contact_id, facts.survivors) == survivor(contact_id, facts.survivors):
        return ClickDecision("already_bound", "same_contact", crowd + claim)
    if kept_out := _why_kept_out(facts):
        return ClickDecision("session_only", kept_out, crowd + claim)
    if _is_overtaken(facts.click.at, facts.bindings):
        return ClickDecision("overtaken", "newer_binding", crowd + claim)
    if current and current.trust > Trust.CLICK:
        return ClickDecision("stays", "declared", crowd + claim)
    moved = _move(facts, contact_id, current, since)
    return ClickDecision(moved.outcome, moved.reason, crowd + claim + moved.changes)


def _why_kept_out(facts: ClickFacts) -> str | None:
    """K4: why this link is not believed in this browser."""
    if facts.link.is_suspect or facts.link_visitors >= VISITORS_PER_LINK:
        return "suspect"
    if facts.claimant is not None and facts.claimant not in {facts.page.visitor_id, *facts.browser}:
        return "claimed_by_another"
    refused = any(click.message_id == facts.link.message_id for click in facts.kept_out)
    return "same_message" if refused else None


def _is_overtaken(at: datetime, bindings: Iterable[Binding]) -> bool:
    return any(binding.bound_at > at or (binding.until is not None and binding.until > at) for binding in bindings)


def _move(facts: ClickFacts, contact_id: UUID, current: Binding | None, since: datetime | None) -> ClickDecision:
    """K3, K4 confirmed, K5: the visitor is this contact from some time on."""
    click, visitor = facts.click, facts.page.visitor_id
    ends = (End(current, click.at, "other_contact"),) if current else ()
    known = {survivor(binding.contact_id, facts.survivors) for binding in facts.bindings}
    flags = over_limits(visitor, contact_id, known | {survivor(contact_id, facts.survivors)}, facts.contact_visitors)
    if flags:
        return ClickDecision("limited", flags[0].subject, ends + flags)
    outcome: Outcome = "moved" if current else "confirmed" if facts.kept_out else "bound"
    earliest = min((kept.at for kept in facts.kept_out), default=click.at - REACH)
    start = click.at if current else max(earliest, since or earliest)
    bind = Bind(visitor, contact_id, start, None, Trust.CLICK, click.at, outcome, facts.link.destination, facts.link.id)
    return ClickDecision(outcome, "first_claimant", (*ends, bind))
