"""A day's traffic, the same for the same seed: every kind of thing that happens to a business on both providers."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from providers.simulator import meta_fields, twilio_webhooks
from providers.simulator import meta_webhooks as meta
from providers.simulator.ledger import Medium, Number, Person
from providers.simulator.media_shelf import InboundFile
from providers.simulator.traffic import Item

_WORDS: Final = ("hello", "order", "where", "blue", "shoes", "thanks", "tomorrow", "größer", "価格", "🙂", "size")
_APART: Final = 100
"""How far behind a message what is about it comes, at least: never in the same webhook."""
_OFTEN: Final[Mapping[str, float]] = {
    "text": 50,
    "twilio": 22,
    "file": 6,
    "other": 6,
    "echo": 4,
    "reaction": 4,
    "edit": 2,
    "revoke": 1,
    "preference": 1,
    "group": 0.5,
    "call": 1,
    "handover": 0.4,
    "history": 0.15,
    "stop": 0.2,
}


@dataclass
class Day:
    """Makes items. `over_meta` has a WhatsApp sender at Meta and an SMS sender at Twilio, `over_twilio` has both at
    Twilio. The `files` can be fetched. `agents` are customers whom Meta's own agent serves at times, `stoppers` those
    who write STOP by SMS; the others do neither.
    """

    seed: int
    people: Sequence[Person]
    over_meta: Number
    over_twilio: Number
    files: Sequence[InboundFile]
    account_sid: str
    api_url: str
    start: float
    seconds: float = 36_000.0
    often: Mapping[str, float] = field(default_factory=lambda: dict(_OFTEN))

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)  # noqa: S311 - repeatable, not secret
        reachable = [person for person in self.people if person.phone]
        special = max(2, len(reachable) // 50)
        self.agents, self.stoppers = reachable[:special], reachable[special : 2 * special]
        apart = set(self.agents + self.stoppers)
        self._others = [person for person in self.people if person not in apart]
        self._reachable = [person for person in self._others if person.phone]
        self._items: list[Item] = []
        self._texts: list[Item] = []
        self._chains: dict[Person, Item] = {}
        self._makers: dict[str, Callable[[], None]] = {
            "text": self._text,
            "twilio": self._twilio,
            "file": self._file,
            "other": self._other,
            "echo": self._echo,
            "reaction": self._reaction,
            "edit": self._edit,
            "revoke": self._revoke,
            "preference": self._preference,
            "group": self._group,
            "call": self._call,
            "handover": self._handover,
            "history": self._history,
            "stop": self._stop,
        }

    def items(self, count: int) -> list[Item]:
        """So many things that happen, or a few more, in order; a piece of history counts by its messages."""
        kinds = [kind for kind, share in self.often.items() if share]
        made, total, place = 0, float(count), 0
        while made < total:
            place = len(self._items)
            self._at = self.start + self.seconds * made / total
            self._makers[self._chance.choices(kinds, [self.often[kind] for kind in kinds])[0]]()
            made += sum(len(item.parts) for item in self._items[place:])
        return self._items

    # What customers write

    def _text(self) -> None:
        person = self._chance.choice(self._others)
        self._texts.append(self._meta("text", person, meta.text(self._words())))

    def _file(self) -> None:
        file, person = self._chance.choice(self.files), self._chance.choice(self._others)
        kind = "image" if file.mime_type.startswith("image/") else "document"
        name = file.filename if kind == "document" else None
        content = meta.media(kind, file.id, file.mime_type, filename=name, sha256=file.sha256_base64)
        self._meta(kind, person, content)

    def _other(self) -> None:
        others = {
            "location": meta.location(52.52, 13.4, name="Shop"),
            "contacts": meta.contacts("Ada Example", "+15550100001"),
            "button": meta.button("Yes", "confirm"),
            "order": meta.order("catalogue", {"shoe-1": 2}),
            "unsupported": meta.unsupported(),
        }
        kind = self._chance.choice(sorted(others))
        self._meta(kind, self._chance.choice(self._others), others[kind])

    def _group(self) -> None:
        person, message_id = self._chance.choice(self._reachable), self._wamid()
        item = meta.message(person, meta.text("to all"), message_id=message_id, at=self._at, group_id="G1")
        self._add("group", person, message_id, entry=meta.Entry(self.over_meta, item, person))

    def _reaction(self) -> None:
        if target := self._earlier():
            content = meta.reaction(target.id, self._chance.choice(("👍", "🎉", None)))
            self._meta("reaction", target.person, content, target=target.id, after=target.id)

    def _edit(self) -> None:
        if target := self._earlier():
            content = meta.edit(target.id, meta.text(self._words()))
            self._meta("edit", target.person, content, target=target.id, after=target.id)

    def _revoke(self) -> None:
        if target := self._earlier():
            self._meta("revoke", target.person, meta.revoke(target.id), target=target.id, after=target.id)

    def _twilio(self) -> None:
        """On the one number by SMS, on the other by SMS or WhatsApp; one in ten with a file."""
        number = self._chance.choice((self.over_meta, self.over_twilio))
        medium: Medium = "sms" if number == self.over_meta or self._chance.random() < 0.3 else "whatsapp"
        person = self._chance.choice(self._reachable if medium == "sms" else self._others)
        if self._chance.random() < 0.1:
            file = self._chance.choice([file for file in self.files if file.mime_type.startswith("image/")])
            self._form("image", person, number, medium, meta.media("image", file.id, file.mime_type))
        else:
            self._form("text", person, number, medium, meta.text(self._words()))

    def _stop(self) -> None:
        person = self._chance.choice(self.stoppers)
        text = self._chance.choice(("STOP", "Stop.", "unsubscribe", "are you there?"))
        kind = "text" if text.endswith("?") else "stop"
        self._form(kind, person, self._chance.choice((self.over_meta, self.over_twilio)), "sms", meta.text(text))

    # What happens beside it

    def _echo(self) -> None:
        person, message_id = self._chance.choice(self._others), self._wamid()
        content = meta.text(self._words())
        body = meta_fields.echo(self.over_meta, person, content, message_id=message_id, at=self._at)
        self._add("echo", person, message_id, body=body)

    def _preference(self) -> None:
        person = self._chance.choice(self._others)
        # Told apart by their time only: never two of one customer in a second.
        value: Literal["stop", "resume"] = "stop" if self._chance.random() < 0.5 else "resume"
        item_id = f"preference:{len(self._items)}"
        body = meta.user_preferences(person, self.over_meta, value, self._at)
        self._add("preference", person, item_id, body=body)

    def _call(self) -> None:
        person, call_id = self._chance.choice(self._reachable), f"wacid.{self._chance.randbytes(18).hex()}"
        begun = meta_fields.call(self.over_meta, person, call_id=call_id, event="connect", at=self._at)
        ended = meta_fields.call(
            self.over_meta, person, call_id=call_id, event="terminate", at=self._at, duration=60, status="COMPLETED"
        )
        self._add("call", person, f"{call_id}:connect", body=begun)
        self._add("call", person, f"{call_id}:terminate", body=ended, after=f"{call_id}:connect")

    def _handover(self) -> None:
        """A customer is served by Meta's agent for a while; each of it comes when the one before was taken in."""
        person, number = self._chance.choice(self.agents), self.over_meta
        self._chain("handover", person, lambda key, at: meta_fields.handover(number, person, "agent", at=at))
        for _ in range(self._chance.randint(0, 2)):
            self._chain("standby", person, lambda key, at: meta_fields.standby(
                number, person, meta.message(person, meta.text(self._words()), message_id=key, at=at)
            ))  # fmt: skip
            self._chain("agent", person, lambda key, at: meta_fields.standby_echo(
                number, person, meta.text(self._words()), message_id=key, at=at
            ))  # fmt: skip
        if self._chance.random() < 0.5:
            self._chain("given_back", person, lambda key, at: meta_fields.handover(number, person, "business", at=at))
        self._chain("text", person, lambda key, at: meta.batch(
            [meta.Entry(number, meta.message(person, meta.text("thanks"), message_id=key, at=at), person)]
        ))  # fmt: skip

    def _history(self) -> None:
        """A piece of the past with several customers; of some messages the file comes later."""
        threads: dict[Person, list[meta_fields.Past]] = {}
        parts: list[Item] = []
        pending: list[tuple[Person, meta_fields.Past]] = []
        for person in self._chance.sample(self._reachable, min(8, len(self._reachable))):
            for _ in range(self._chance.randint(1, 6)):
                has_file = self._chance.random() < 0.1
                content = meta_fields.placeholder() if has_file else meta.text(self._words())
                when = self.start - self._chance.uniform(86_400, 86_400 * 90)
                past = meta_fields.Past(content, self._wamid(), when, by_business=self._chance.random() < 0.4)
                threads.setdefault(person, []).append(past)
                kind = "history_file" if has_file else "history_echo" if past.by_business else "history"
                parts.append(self._item(kind, person, past.message_id, target="echo" if past.by_business else None))
                if has_file:
                    pending.append((person, past))
        body = meta_fields.history(self.over_meta, threads, phase=self._chance.randint(0, 2), chunk=len(self._items))
        first = parts[0]
        self._items.append(replace(first, kind="history", body=body, others=tuple(parts), target=None))
        for person, past in pending:
            file = next(file for file in self.files if file.mime_type.startswith("image/"))
            content = meta.media("image", file.id, file.mime_type, sha256=file.sha256_base64)
            filled = meta_fields.history_media(self.over_meta, person, replace(past, content=content))
            key = f"file:{past.message_id}"
            self._add("history_media", person, key, body=filled, target=past.message_id, after=first.id)

    # How items are made

    def _meta(
        self, kind: str, person: Person, content: Mapping[str, Any], *, target: str | None = None,
        after: str | None = None,
    ) -> Item:  # fmt: skip
        message_id = self._wamid()
        item = meta.message(person, content, message_id=message_id, at=self._at)
        text = content["text"]["body"] if kind == "text" else None
        entry = meta.Entry(self.over_meta, item, person)
        return self._add(kind, person, message_id, entry=entry, target=target, after=after, text=text)

    def _form(
        self, kind: str, person: Person, number: Number, medium: Medium, content: Mapping[str, Any]
    ) -> Item:  # fmt: skip
        sid = f"{'MM' if kind == 'image' else 'SM'}{self._chance.randbytes(16).hex()}"
        form = twilio_webhooks.message(
            number, person, content, medium=medium, account_sid=self.account_sid, sid=sid, api_url=self.api_url
        )
        made = Item(kind, "twilio", medium, number, person, sid, self._at, form=form, text=dict(form)["Body"])
        self._items.append(made)
        return made

    def _chain(self, kind: str, person: Person, build: Callable[[str, float], Any]) -> None:
        before = self._chains.get(person)
        key = self._wamid()
        at = max(self._at, before.at + 2 if before else 0)
        made = replace(self._item(kind, person, key, after=before and before.id), at=at, body=build(key, at))
        self._items.append(made)
        self._chains[person] = made

    def _add(self, kind: str, person: Person, key: str, **more: Any) -> Item:
        made = self._item(kind, person, key, **more)
        self._items.append(made)
        return made

    def _item(self, kind: str, person: Person, key: str, **more: Any) -> Item:
        return Item(kind, "meta", "whatsapp", self.over_meta, person, key, self._at, **more)

    def _earlier(self) -> Item | None:
        return self._chance.choice(self._texts[:-_APART]) if len(self._texts) > _APART else None

    def _words(self) -> str:
        return " ".join(self._chance.choices(_WORDS, k=self._chance.randint(1, 12)))

    def _wamid(self) -> str:
        return f"wamid.{self._chance.randbytes(24).hex()}"
