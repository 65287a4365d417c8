"""Named scenarios: what a hub has to cope with, posted to one that runs. Each says in its first line what it plays."""

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from providers.simulator import meta_account, meta_fields
from providers.simulator import meta_webhooks as meta
from providers.simulator.business import Business
from providers.simulator.ledger import Medium, Number, Person, ProviderName
from providers.simulator.load import people
from providers.simulator.meta_fields import Past
from providers.simulator.scenario import Customer
from providers.simulator.server import Simulator

_PIXEL: Final = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63000100000500010d0a2db400"
    "00000049454e44ae426082"
)
"""The smallest picture."""


class NotPlayableError(Exception):
    """The hub, or this machine, lacks what a scenario needs."""


@dataclass
class Stage:
    """Where a scenario plays: the numbers the hub has, by what they can do; absent ones are None."""

    simulator: Simulator
    meta: Number | None = None
    sms: Number | None = None
    twilio_whatsapp: Number | None = None
    has_api: bool = False
    seed: int = 1

    def __post_init__(self) -> None:
        self._people = iter(people(self.seed, 1000, without_phone=0.0))
        self._hidden = iter(people(self.seed + 1, 1000, without_phone=1.0))
        self.chance = random.Random(self.seed)  # noqa: S311 - repeatable, not secret

    def person(self, *, is_hidden: bool = False) -> Person:
        """Somebody new, perhaps without a phone."""
        return next(self._hidden if is_hidden else self._people)

    def customer(self, *, is_hidden: bool = False) -> Customer:
        """Somebody who writes over WhatsApp at Meta. Raises `NotPlayableError`."""
        return Customer(self.simulator, self.person(is_hidden=is_hidden), self.number())

    def number(self) -> Number:
        """The number at Meta. Raises `NotPlayableError`."""
        if self.meta is None:
            raise NotPlayableError("the hub has no number with a WhatsApp sender at Meta: register one")
        return self.meta

    def business(self) -> Business:
        """Its owner."""
        return Business(self.simulator, self.number())

    def texter(self, medium: Medium = "sms", *, is_hidden: bool = False) -> Customer:
        """Somebody who writes over Twilio. Raises `NotPlayableError`."""
        number = self.sms if medium == "sms" else self.twilio_whatsapp
        if number is None:
            raise NotPlayableError(f"the hub has no number with a sender for {medium} at Twilio: register one")
        provider: ProviderName = "twilio"
        return Customer(self.simulator, self.person(is_hidden=is_hidden), number, provider=provider, medium=medium)


async def twilio(stage: Stage) -> None:
    """SMS and, where there is a sender, WhatsApp over Twilio: texts, an MMS, a tapped button, a place."""
    customer = stage.texter()
    await customer.says("Is my order ready?")
    await customer.sends_mms("Two pictures", [(_PIXEL, "image/png"), (_PIXEL, "image/png")])
    if stage.twilio_whatsapp is not None:
        other = stage.texter("whatsapp")
        first = await other.says("Hello over WhatsApp")
        await other.says("and again", reply_to=first)
        await other.sends(meta.button("Yes", "confirm"))
        await other.sends(meta.location(52.52, 13.4, name="Shop"))
        await other.sends(meta.from_ad(meta.text("I saw your ad"), source_id="4711", url="https://fb.me/4711"))


async def no_phone(stage: Stage) -> None:
    """Customers who hide their number: they write, and are known by their business-scoped id alone."""
    customer = stage.customer(is_hidden=True)
    for text in ("Hello, it is me", "You cannot see my number"):
        await customer.says(text)
    await customer.gets_user_id(replace(customer.person, user_id=f"{customer.person.user_id}1"))
    await customer.says("I have another id now")
    if stage.twilio_whatsapp is not None:
        await stage.texter("whatsapp", is_hidden=True).says("Hello over Twilio")


async def handover(stage: Stage) -> None:
    """Meta's own agent takes a conversation, talks to the customer, and gives it back."""
    customer, business = stage.customer(), stage.business()
    await customer.says("Do you have blue shoes?")
    await business.hands_over(customer.person, "agent")
    customer.is_with_agent = True
    await customer.says("Size 42, please")
    await business.agent_says(customer.person, "We have them in 42.")
    await customer.says("I would rather talk to a person")
    await business.hands_over(customer.person, "business")
    customer.is_with_agent = False
    await customer.says("Is anybody there?")


async def history(stage: Stage) -> None:
    """What was written before the number was connected, in phases and pieces; a file comes later."""
    business, now = stage.business(), stage.simulator.ledger.clock()
    wamid = stage.simulator.ledger.wamid
    for phase, days in enumerate((0.5, 30, 120)):
        threads = {}
        for _ in range(3):
            at = now - days * 86_400
            threads[stage.person()] = [
                Past(meta.text("Are you open on Sunday?"), wamid(), at),
                Past(meta.text("From ten to four."), wamid(), at + 60, by_business=True, status="DELIVERED"),
            ]
        await business.shares_history(threads, phase=phase, chunk=1, progress=33 * (phase + 1) + phase // 2)
    person, late = stage.person(), Past(meta_fields.placeholder(), wamid(), now - 3600)
    await business.shares_history({person: [late]}, phase=0, chunk=2)
    await business.shares_file(person, replace(late, content=_picture(stage)))


async def media(stage: Stage) -> None:
    """A picture each way, a document, a voice message, a sticker; with --api-port the hub can fetch them."""
    customer = stage.customer()
    await customer.sends_file("image", _PIXEL, "image/png", caption="Broken on arrival")
    await customer.sends_file("document", b"%PDF-1.4\n%%EOF\n" * 200, "application/pdf", filename="invoice.pdf")
    await customer.sends_file("audio", b"OggS" * 500, "audio/ogg; codecs=opus", voice=True)
    await customer.sends_file("sticker", _PIXEL, "image/webp")
    await stage.business().echoes(customer.person, _picture(stage))


async def statuses(stage: Stage) -> None:
    """What becomes of messages from the phone app: out of order, twice, contradicting, and of unknown ones."""
    customer, business = stage.customer(), stage.business()
    await customer.says("Hello")
    for steps in (("delivered", "sent", "read"), ("sent", "sent", "delivered", "delivered"), ("delivered", "failed")):
        message_id = await business.echoes(customer.person, f"It ends with {steps[-1]}")
        for step in steps:
            await business.posts(_status(stage, step, message_id, customer.person))
    await business.posts(_status(stage, "delivered", stage.simulator.ledger.wamid(), customer.person))


async def identity(stage: Stage) -> None:
    """Customers get another number or id; one is reported in two forms of a Brazilian number."""
    customer = stage.customer()
    await customer.says("I am going to move")
    new = stage.person()
    await customer.changes_number(replace(new, name=customer.person.name, user_id=f"{customer.person.user_id}2"))
    await customer.says("This is my new number")
    await customer.changes_user_id(replace(customer.person, user_id=f"{customer.person.user_id}3"))
    await customer.says("and my new id")
    for phone in ("+551187654321", "+5511987654321"):
        person = Person(phone=phone, name="Bruna")
        await Customer(stage.simulator, person, stage.number()).says(f"from {phone}")


async def account(stage: Stage) -> None:
    """A template is approved, paused and of another category; quality, limits, a restriction, a PIN."""
    business, number, at = stage.business(), stage.number(), stage.simulator.ledger.clock()
    template = stage.simulator.templates[0]
    await business.template(template, "APPROVED")
    await business.template(template, "PAUSED", reason="PAUSED")
    await business.quality("FLAGGED", current="TIER_1K")
    await business.quality("UNFLAGGED", current="TIER_1K")
    for body in (
        meta_account.template_quality(number, template, "GREEN", "YELLOW", at=at),
        meta_account.template_category(number, template, "UTILITY", "MARKETING", at=at),
        meta_account.template_components(number, template, "Your order {{1}} has left.", at=at),
        meta_account.account_alert(number, "INCREASED_CAPABILITIES_ELIGIBILITY_DEFERRED", at=at),
        meta_account.capability(number, "TIER_2K", at=at),
        meta_account.account_violation(number, "SPAM", at=at),
        meta_account.account_reviewed(number, "APPROVED", at=at),
        meta_account.account_restricted(number, "RESTRICTED_BIZ_INITIATED_MESSAGING", at=at, until=at + 86_400),
        meta_account.account_banned(number, "REINSTATE", at=at + 1),
        meta_account.security(number, "PIN_RESET_REQUEST", at=at),
        meta_account.phone_name(number, "APPROVED", at=at),
    ):
        await business.posts(body)


async def opt_out(stage: Stage) -> None:
    """STOP and START by SMS, plain and with Advanced Opt-Out; marketing stopped in WhatsApp's settings."""
    customer = stage.texter()
    for text in ("STOP", "Start"):
        await customer.says(text)
    other = stage.texter()
    await other.opts("STOP", "arret")
    if stage.meta is not None:
        reader = stage.customer()
        await reader.says("Hello")
        await reader.prefers_marketing(wants=False)
        await reader.prefers_marketing(wants=True)
        await reader.says("STOP")


async def changes(stage: Stage) -> None:
    """Messages are edited and deleted; reactions come and go."""
    customer = stage.customer()
    first, second = await customer.says("I want too pairs"), await customer.says("Oh, wrong chat")
    await customer.edits(first, "I want two pairs")
    await customer.revokes(second)
    echo = await stage.business().echoes(customer.person, "Two pairs it is.")
    await customer.reacts(echo, "👍")
    await customer.reacts(echo, None)


async def kinds(stage: Stage) -> None:
    """Every other kind of message at Meta: taps, orders, places, calls, groups, advertisements, unknown ones."""
    customer = stage.customer()
    for content in (
        meta.request_welcome(),
        meta.from_ad(meta.text("I saw your ad"), source_id="4711", url="https://fb.me/4711"),
        meta.location(52.52, 13.4, name="Shop"),
        meta.contacts("Ada Example", "+15550100001"),
        meta.button("Yes", "confirm"),
        meta.button_reply("yes", "Yes"),
        meta.list_reply("blue", "Blue shoes"),
        meta.flow_reply({"size": 42}),
        meta.order("catalogue", {"shoe-1": 2}, note="Gift wrapped"),
        meta.unsupported(),
    ):
        await customer.sends(content)
    await customer.sends(meta.text("to everybody"), group_id="group-1")
    await customer.sends(meta.text("from a friend"), forwarded=True)
    await customer.calls(seconds=90)
    await customer.calls(seconds=None)


async def outage(stage: Stage) -> None:
    """Twenty SMS of which Twilio's webhooks are lost for half; with --api-port the hub finds them in its list."""
    if not stage.has_api:
        raise NotPlayableError("outage needs --api-port, and a hub whose PARTYLINE_TWILIO_API_URL leads there")
    customers = [stage.texter() for _ in range(4)]
    for turn in range(5):
        for place, customer in enumerate(customers):
            stage.simulator.loses_twilio_webhooks = turn in (1, 3) or (turn == 2 and place < 2)
            await customer.says(f"message {turn}")
    stage.simulator.loses_twilio_webhooks = False


Story = Callable[[Stage], Awaitable[None]]
STORIES: Final[Mapping[str, Story]] = {
    "twilio": twilio,
    "no-phone": no_phone,
    "handover": handover,
    "history": history,
    "media": media,
    "statuses": statuses,
    "identity": identity,
    "account": account,
    "opt-out": opt_out,
    "changes": changes,
    "kinds": kinds,
    "outage": outage,
}


def summary(story: Story) -> str:
    """What it plays, in a line."""
    return (story.__doc__ or "").strip().splitlines()[0]


def _picture(stage: Stage) -> dict[str, Any]:
    file = stage.simulator.shelf.add(_PIXEL, "image/png")
    return meta.media("image", file.id, file.mime_type, sha256=file.sha256_base64)


def _status(stage: Stage, step: str, message_id: str, person: Person) -> dict[str, Any]:
    item = meta.status(
        step,
        message_id=message_id,
        to=person.phone or person.user_id or "",
        at=stage.simulator.ledger.clock(),
        error_code=131026 if step == "failed" else None,
    )
    return meta.batch([meta.Entry(stage.number(), item)])
