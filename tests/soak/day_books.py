"""What must be in the hub after a day, by the rules and by what the providers know: not by the hub's own code."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console
from rich.table import Table

from providers.simulator import Person
from providers.simulator.traffic import Item

_TYPES: Final = {
    "stop": "text",
    "group": "unsupported",
    "echo": "text",
    "standby": "text",
    "agent": "text",
    "history": "text",
    "history_echo": "text",
    "history_file": "image",
}
"""Of what type an entry is, where its kind is not its type. A file of the history comes later, always."""
_CHANGES: Final = {"edit": "message.edited", "revoke": "message.deleted", "reaction": "reaction.changed"}
_SILENT: Final = frozenset({"preference", "handover", "given_back", "history_media", *_CHANGES})
"""What is no message."""

Row = tuple[str, str, bool]
"""Type, origin, and whether it is history."""
Place = tuple[str, str, Person]


@dataclass
class Books:
    """Counts of what is in the hub once all of this was taken in."""

    contacts: set[Person] = field(default_factory=set)
    conversations: set[Place] = field(default_factory=set)
    messages: Counter[Row] = field(default_factory=Counter)
    received: set[str] = field(default_factory=set)
    """Ids of messages that services are told of."""
    changes: Counter[str] = field(default_factory=Counter)
    edited: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    files: int = 0
    stopped: set[Person] = field(default_factory=set)
    entries: Counter[Place] = field(default_factory=Counter)
    """How many numbers (of the sequence) each conversation has used, without those of what the business sends."""

    @classmethod
    def of(cls, items: Iterable[Item]) -> "Books":
        """Add up a day; what comes twice counts once."""
        books = cls()
        held: set[Person] = set()
        for item in items:
            if not item.is_repeat:
                for part in item.parts:
                    books._add(part, item, held)
        return books

    def _add(self, part: Item, item: Item, held: set[Person]) -> None:
        place = (part.number.e164, part.medium, part.person)
        self.contacts.add(part.person)
        if part.kind != "preference":
            self.conversations.add(place)
        self.files += part.kind in {"image", "document", "history_media"}
        if part.kind == "stop":
            self.stopped.add(part.person)
        if item.others:
            self._history(part)
            return
        self._change_hands(part, place, held)
        if part.kind in _CHANGES:
            self.changes[_CHANGES[part.kind]] += 1
            self.entries[place] += 1
            if part.target and part.kind != "reaction":
                (self.edited if part.kind == "edit" else self.deleted).add(part.target)
        if part.kind in _SILENT:
            return
        origin = {"echo": "echo", "standby": "external", "agent": "external"}.get(part.kind, "customer")
        self.messages[_TYPES.get(part.kind, part.kind), origin, False] += 1
        self.received.add(part.id)
        self.entries[place] += 1

    def _history(self, part: Item) -> None:
        """Told to nobody, and of no number that counts upwards."""
        self.messages[_TYPES[part.kind], part.target or "customer", True] += 1

    def _change_hands(self, part: Item, place: Place, held: set[Person]) -> None:
        """Meta's agent has a customer from a handover, or a sign of it, until it is given back or they write to us."""
        if part.provider != "meta" or part.kind not in {"handover", "standby", "agent", "given_back", "text"}:
            return
        is_theirs = part.kind in {"handover", "standby", "agent"}
        if is_theirs != (part.person in held):
            (held.add if is_theirs else held.discard)(part.person)
            self.messages["handover", "external", False] += 1
            self.changes["conversation.handover"] += 1
            self.entries[place] += 1


@dataclass
class Sheet:
    """Expected and found, side by side."""

    rows: list[tuple[str, int, int]] = field(default_factory=list)

    def add(self, name: str, expected: int, found: int) -> None:
        """One line."""
        self.rows.append((name, expected, found))

    def show(self, title: str) -> None:
        """Print it."""
        table = Table("kind", "expected", "found", "difference", title=title, title_justify="left")
        for column in table.columns[1:]:
            column.justify = "right"
        for name, expected, found in self.rows:
            table.add_row(name, f"{expected:,}", f"{found:,}", f"{found - expected:+,}" if found != expected else "0")
        Console(width=110).print(table)

    @property
    def differences(self) -> list[tuple[str, int, int]]:
        """The lines that do not agree."""
        return [row for row in self.rows if row[1] != row[2]]
