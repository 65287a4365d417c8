"""Events as the hub writes them (docs/events.md): the same in webhooks, feed and stream."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from partyline_client.errors import Malformed


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `id` names it wherever it appears: retries, replays and feed show the same one."""

    id: str
    type: str
    timestamp: datetime
    data: Mapping[str, Any]
    is_replay: bool = False

    @classmethod
    def from_json(cls, text: str | bytes, *, is_replay: bool = False) -> "Event":
        """Read an event's JSON. Raises `Malformed`."""
        return cls.from_document(read_json(text), is_replay=is_replay)

    @classmethod
    def from_document(cls, document: object, *, is_replay: bool = False) -> "Event":
        """Read an event, already parsed. Raises `Malformed`; fields it does not know are no fault."""
        if not isinstance(document, Mapping):
            raise Malformed("an event is an object")
        kind, at, data = document.get("type"), document.get("timestamp"), document.get("data")
        if not isinstance(kind, str) or not isinstance(at, str) or not isinstance(data, Mapping):
            raise Malformed("an event has a type, a timestamp and data")
        event_id = data.get("event_id")
        if not isinstance(event_id, str) or not event_id:
            raise Malformed("an event has an id")
        return cls(event_id, kind, _time(at), data, is_replay)

    @property
    def number(self) -> str | None:
        """The shared number it is about, such as `+15550001111`."""
        return _text(self.data.get("number"))

    @property
    def conversation_id(self) -> str | None:
        """The conversation it belongs to, where it belongs to one."""
        return _text(self._part("conversation").get("id"))

    @property
    def sequence(self) -> int | None:
        """Its own number in the conversation: one higher than the event before. A `conversation.collision` has none."""
        sequence = self._part("conversation").get("sequence")
        return sequence if isinstance(sequence, int) and not isinstance(sequence, bool) else None

    @property
    def contact(self) -> Mapping[str, Any]:
        """The customer: `id`, `name`, `addresses`; empty where there is none."""
        return self._part("contact")

    @property
    def message(self) -> Mapping[str, Any]:
        """The message it is about, empty where there is none."""
        return self._part("message")

    @property
    def text(self) -> str | None:
        """The message's text, where it has one that we may see."""
        return _text(self.message.get("text"))

    @property
    def is_masked(self) -> bool:
        """Whether the message is another service's, and its content not ours to see."""
        return self.message.get("masked") is True

    @property
    def may_automate(self) -> bool:
        """Whether our bots may answer here now: only the number's parent may."""
        return self._part("automation").get("allowed") is True

    @property
    def parent_epoch(self) -> int | None:
        """Goes up at every change of parent: a bot's reply carries that of the event it reacts to."""
        epoch = self._part("automation").get("parent_epoch")
        return epoch if isinstance(epoch, int) else None

    def _part(self, name: str) -> Mapping[str, Any]:
        return _object(self.data, name)


@dataclass(frozen=True, slots=True)
class Expired:
    """A hole: the log has dropped events after the first id, up to the second, before this reader asked for them."""

    after_event_id: str
    upto_event_id: str

    @classmethod
    def from_document(cls, document: object) -> "Expired":
        """Read it. Raises `Malformed`."""
        known = document if isinstance(document, Mapping) else {}
        after, upto = known.get("after_event_id"), known.get("upto_event_id")
        if not isinstance(after, str) or not isinstance(upto, str):
            raise Malformed("what expired lies between two ids")
        return cls(after, upto)


@dataclass(frozen=True, slots=True)
class Presence:
    """Somebody looks at a conversation, types, or left it: on the live stream only, and not to be kept. It holds until
    `expires_at`, if nothing newer comes of the same agent.
    """

    conversation_id: str
    state: str
    service: Mapping[str, Any]
    agent: Mapping[str, Any]
    expires_at: datetime
    data: Mapping[str, Any]

    @classmethod
    def from_document(cls, document: object) -> "Presence":
        """Read it. Raises `Malformed`."""
        data = _object(document if isinstance(document, Mapping) else {}, "data")
        there = _object(data, "presence")
        conversation, state, until = (
            _object(data, "conversation").get("id"),
            there.get("state"),
            there.get("expires_at"),
        )
        if not (isinstance(conversation, str) and isinstance(state, str) and isinstance(until, str)):
            raise Malformed("a presence has a conversation, a state and an end")
        return cls(conversation, state, _object(there, "service"), _object(there, "agent"), _time(until), data)


def read_json(text: str | bytes) -> object:
    """Read JSON. Raises `Malformed`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not JSON: {error}") from None


def _object(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = parent.get(name)
    return part if isinstance(part, Mapping) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Malformed("an event's timestamp is a time such as 2026-01-31T12:00:00Z") from None
    if at.tzinfo is None:
        raise Malformed("an event's timestamp has an offset, or Z")
    return at
