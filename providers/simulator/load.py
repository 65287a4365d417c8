"""Many customers' traffic at Meta, and texts over Twilio; the same for the same seed."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

from providers.simulator import meta_webhooks as meta
from providers.simulator import twilio_webhooks
from providers.simulator.ledger import Medium, Number, Person
from providers.simulator.twilio_webhooks import Pairs

_NAMES = ("Ada", "Bruno", "Chidi", "Dalia", "Emeka", "Fatima", "Goran", "Hana", "Ines", "Jamal")
_WORDS = ("hello", "order", "where", "blue", "shoes", "thanks", "tomorrow", "größer", "価格", "🙂", "size", "please")
_SPACING = 0.25
_REPEAT_WITHIN = 50


def people(seed: int, count: int, *, without_phone: float = 0.1) -> list[Person]:
    """Make customers up; a share of them hides the phone behind a username. Phones are fictional (+1 555 01xx...)."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    return [_person(chance, index, hidden=chance.random() < without_phone) for index in range(count)]


def mixed_load(
    seed: int,
    n: int,
    customers: Sequence[Person],
    *,
    numbers: Sequence[Number],
    duplicates: float = 0.05,
    reorder: float = 0.05,
    batch: int = 10,
    start: float = 1_700_000_000.0,
) -> Iterator[dict[str, Any]]:
    """Yield bodies as Meta posts them, with `n` different messages in all, up to `batch` in a body.

    A share `duplicates` of the messages comes a second time, within the next 50 and mostly in another batch; a
    share `reorder` changes places with its successor. Timestamps begin at `start` (unix seconds).
    """
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    entries = [_entry(chance, index, customers, numbers, start) for index in range(n)]
    for index in range(n - 1):
        if chance.random() < reorder:
            entries[index], entries[index + 1] = entries[index + 1], entries[index]
    entries = _with_duplicates(chance, entries, duplicates)
    at = 0
    while at < len(entries):
        size = chance.randint(1, batch)
        yield meta.batch(entries[at : at + size])
        at += size


def twilio_load(
    seed: int,
    n: int,
    customers: Sequence[Person],
    *,
    senders: Sequence[tuple[Number, Medium]],
    account_sid: str,
    duplicates: float = 0.05,
    reorder: float = 0.05,
) -> Iterator[Pairs]:
    """Yield forms as Twilio posts them, with `n` different texts in all; who has no phone writes over WhatsApp only,
    and where no sender fits, nobody does.
    """
    chance = random.Random(f"{seed} twilio")  # noqa: S311 - repeatable, not secret
    by_medium = {medium: [number for number, known in senders if known == medium] for medium in ("sms", "whatsapp")}
    writers = [person for person in customers if by_medium["whatsapp"] or (person.phone and by_medium["sms"])]
    forms: list[Pairs] = []
    for _ in range(n if writers else 0):
        person = chance.choice(writers)
        number, medium = chance.choice([each for each in senders if person.phone or each[1] == "whatsapp"])
        words, sid = " ".join(chance.choices(_WORDS, k=chance.randint(1, 12))), f"SM{chance.randbytes(16).hex()}"
        text = meta.text(words)
        forms.append(twilio_webhooks.message(number, person, text, medium=medium, account_sid=account_sid, sid=sid))
    for index in range(len(forms) - 1):
        if chance.random() < reorder:
            forms[index], forms[index + 1] = forms[index + 1], forms[index]
    for form in forms:
        yield form
        if chance.random() < duplicates:
            yield form


def _with_duplicates(chance: random.Random, entries: list[meta.Entry], share: float) -> list[meta.Entry]:
    placed = [(float(index), entry) for index, entry in enumerate(entries)]
    for index, entry in enumerate(entries):
        if chance.random() < share:
            placed.append((index + chance.uniform(0.5, _REPEAT_WITHIN), entry))
    placed.sort(key=lambda pair: pair[0])
    return [entry for _, entry in placed]


def _entry(
    chance: random.Random, index: int, customers: Sequence[Person], numbers: Sequence[Number], start: float
) -> meta.Entry:
    person = chance.choice(customers)
    message_id = f"wamid.{chance.randbytes(24).hex()}"
    content = _content(chance, message_id)
    item = meta.message(person, content, message_id=message_id, at=start + index * _SPACING)
    return meta.Entry(chance.choice(numbers), item, person)


def _content(chance: random.Random, message_id: str) -> dict[str, Any]:
    """Three in four are texts, as in life; the rest takes every other kind in turn."""
    words = " ".join(chance.choices(_WORDS, k=chance.randint(1, 12)))
    media_id = str(chance.randrange(10**14, 10**15))
    others = (
        meta.media("image", media_id, "image/jpeg", caption=words),
        meta.media("document", media_id, "application/pdf", filename=f"{media_id}.pdf"),
        meta.media("audio", media_id, "audio/ogg; codecs=opus"),
        meta.location(52.52, 13.4, name="Shop"),
        meta.contacts("Ada Example", "+15550100001"),
        meta.button("Yes", "confirm"),
        meta.button_reply("yes", "Yes"),
        meta.list_reply("blue", "Blue shoes"),
        meta.order("catalogue", {"shoe-1": 2}),
        meta.reaction(message_id[::-1], "👍"),
        meta.unsupported(),
    )
    return meta.text(words) if chance.random() < 0.75 else chance.choice(others)


def _person(chance: random.Random, index: int, *, hidden: bool) -> Person:
    name = f"{chance.choice(_NAMES)} {index}"
    user_id = f"US.{chance.randrange(10**15, 10**16)}"
    if hidden:
        return Person(user_id=user_id, username=f"{name.lower().replace(' ', '.')}", name=name)
    return Person(phone=f"+1557{index:07d}", user_id=user_id, name=name)
