"""Traffic of many customers over both providers: items, some late and some twice, packed into webhooks."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from providers.simulator import meta_webhooks as meta
from providers.simulator.ledger import Medium, Number, Person, ProviderName
from providers.simulator.meta_webhooks import Json
from providers.simulator.twilio_webhooks import Pairs

_REPEAT_WITHIN = 50


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that happens. `kind` is a word for it, `id` what the provider knows it by.

    Meta may put an `entry` together with others; a `body` is a webhook of its own, as is Twilio's `form`. `parts` is
    how many things a body tells of. `target` is the message it is about; `after` must have been taken in before.
    """

    kind: str
    provider: ProviderName
    medium: Medium
    number: Number
    person: Person
    id: str
    at: float
    entry: meta.Entry | None = None
    body: Json | None = None
    form: Pairs | None = None
    target: str | None = None
    after: str | None = None
    is_repeat: bool = False
    text: str | None = None
    others: tuple["Item", ...] = ()

    @property
    def parts(self) -> tuple["Item", ...]:
        """What a body tells of: itself, or the messages of a piece of history."""
        return self.others or (self,)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook to be posted, and what is in it: a `body` of Meta's or a `form` of Twilio's."""

    items: tuple[Item, ...]
    body: Json | None = None
    form: Pairs | None = None

    @property
    def after(self) -> frozenset[str]:
        """What must have been taken in before this is posted; nothing of it is in here."""
        mine = {item.id for item in self.items}
        return frozenset(item.after for item in self.items if item.after and item.after not in mine)


def disturbed(seed: int, items: Sequence[Item], *, duplicates: float = 0.05, reorder: float = 0.05) -> list[Item]:
    """The same, of which a share `duplicates` comes a second time within the next 50, and a share `reorder` changes
    places with its successor; what depends on another stays behind it.
    """
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    mixed = list(items)
    for index in range(len(mixed) - 1):
        pair = mixed[index : index + 2]
        if chance.random() < reorder and pair[1].after is None and pair[0].after is None:
            mixed[index : index + 2] = reversed(pair)
    placed = [(float(index), item) for index, item in enumerate(mixed)]
    for index, item in enumerate(mixed):
        if chance.random() < duplicates:
            placed.append((index + chance.uniform(0.5, _REPEAT_WITHIN), replace(item, is_repeat=True)))
    placed.sort(key=lambda pair: pair[0])
    return [item for _, item in placed]


def packed(seed: int, items: Sequence[Item], *, batch: int = 10) -> Iterator[Delivery]:
    """Webhooks as the providers post them: up to `batch` entries of Meta's in one, all else alone."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    waiting: list[Item] = []
    size = chance.randint(1, batch)
    for item in items:
        if item.entry is None:
            yield Delivery((item,), item.body, item.form)
            continue
        waiting.append(item)
        if len(waiting) == size:
            yield _batched(waiting)
            waiting, size = [], chance.randint(1, batch)
    if waiting:
        yield _batched(waiting)


def _batched(items: Sequence[Item]) -> Delivery:
    return Delivery(tuple(items), meta.batch([item.entry for item in items if item.entry is not None]))
