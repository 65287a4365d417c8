"""A mixed load over both providers, as signed webhooks that can be posted one by one."""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any
from urllib.parse import urlencode

from providers.simulator.ledger import Medium, Number, Person
from providers.simulator.load import mixed_load, people, twilio_load
from providers.simulator.meta_webhooks import encode
from providers.simulator.posting import META_PATH, TWILIO_PATH
from providers.simulator.server import Simulator
from providers.simulator.signing import sign_meta, sign_twilio
from providers.simulator.stories import NotPlayableError, Stage
from providers.simulator.twilio_webhooks import Pairs


@dataclass(frozen=True, slots=True)
class Mix:
    """What a mixed load is made of; shares are between 0 and 1.

    `twilio`: of the messages, over Twilio; `outage`: of these, with their webhook lost; `no_phone`: of the customers.
    """

    messages: int
    customers: int
    batch: int
    duplicates: float
    reorder: float
    twilio: float
    outage: float
    no_phone: float
    seed: int
    concurrency: int


@dataclass(frozen=True, slots=True)
class SignedWebhook:
    """What is posted; `messages` are in it, repeats included."""

    path: str
    raw: bytes
    headers: Mapping[str, str]
    messages: int


def mixed(stage: Stage, mix: Mix) -> Iterator[SignedWebhook]:
    """All webhooks, those of both providers in between each other. Raises `NotPlayableError`."""
    if stage.meta is None and mix.twilio < 1:
        raise NotPlayableError("the hub has no number with a sender at Meta: register one, or say --phone-number-id")
    customers = people(mix.seed, mix.customers, without_phone=mix.no_phone)
    over_twilio = round(mix.messages * mix.twilio)
    first = _over_meta(stage.simulator, mix, customers, mix.messages - over_twilio)
    second = _over_twilio(stage, mix, customers, over_twilio)
    chance = random.Random(mix.seed)  # noqa: S311 - repeatable, not secret
    while True:
        chosen, other = (second, first) if chance.random() < mix.twilio else (first, second)
        if (webhook := next(chosen, None)) is None:
            break
        yield webhook
    yield from chain(other)


def _over_meta(simulator: Simulator, mix: Mix, customers: Sequence[Person], count: int) -> Iterator[SignedWebhook]:
    numbers = [number for number in simulator.numbers if number.phone_number_id]
    if not count:
        return
    load = mixed_load(
        mix.seed,
        count,
        customers,
        numbers=numbers,
        duplicates=mix.duplicates,
        reorder=mix.reorder,
        batch=mix.batch,
        start=time.time() - count,
    )
    for body in load:
        raw = encode(body)
        signature = sign_meta(raw, simulator.meta_app_secrets[0])
        headers = {"Content-Type": "application/json", "X-Hub-Signature-256": signature}
        yield SignedWebhook(META_PATH, raw, headers, _count(body))


def _over_twilio(stage: Stage, mix: Mix, customers: Sequence[Person], count: int) -> Iterator[SignedWebhook]:
    """Twilio lists all of them; those of an outage are in its list only."""
    if not count:
        return
    wanted: list[tuple[Number | None, Medium]] = [(stage.sms, "sms"), (stage.twilio_whatsapp, "whatsapp")]
    senders = [(number, medium) for number, medium in wanted if number is not None]
    if not senders:
        raise NotPlayableError("the hub has no number with a sender at Twilio: register one, or say --twilio 0")
    if mix.outage and not stage.has_api:
        raise NotPlayableError("--outage needs --api-port, and a hub whose PARTYLINE_TWILIO_API_URL leads there")
    simulator, chance = stage.simulator, random.Random(mix.seed)  # noqa: S311 - repeatable, not secret
    listed: set[str] = set()
    for form in twilio_load(
        mix.seed,
        count,
        customers,
        senders=senders,
        account_sid=simulator.twilio_account_sid,
        duplicates=mix.duplicates,
        reorder=mix.reorder,
    ):
        sid = dict(form)["MessageSid"]
        if sid not in listed:
            listed.add(sid)
            simulator.twilio_api.add_inbound(form)
        if chance.random() >= mix.outage:
            yield _signed_form(simulator, form)


def _signed_form(simulator: Simulator, form: Pairs) -> SignedWebhook:
    signature = sign_twilio(f"{simulator.public_url}{TWILIO_PATH}", form, simulator.twilio_auth_token)
    headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": signature}
    return SignedWebhook(TWILIO_PATH, urlencode(form).encode(), headers, 1)


def _count(body: Mapping[str, Any]) -> int:
    return sum(len(change["value"]["messages"]) for entry in body["entry"] for change in entry["changes"])
