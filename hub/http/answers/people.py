"""Services, agents and customers, as answers and events name them."""

from typing import Any, Literal

from hub.http.answers.base import MAYBE, ContactId, ServiceId, Strict, Time


class Named(Strict):
    """A service."""

    id: ServiceId
    name: str


class Author(Strict):
    """The service that wrote a message."""

    service_id: ServiceId
    name: str


class Agent(Strict):
    """A person, by their service's word; the id is told to that service only."""

    id: str | None = MAYBE
    name: str | None


class Holder(Strict):
    """Who holds a conversation (rule D1)."""

    service: Named
    agent: Agent | None
    since: Time
    expires_at: Time


class Waiting(Strict):
    """For whom a conversation waits, and who passed it on (rule D4); the two services see the note."""

    service: Named
    from_: Named
    agent: Agent | None
    since: Time
    note: str | None = MAYBE

    model_config = Strict.model_config | {"alias_generator": lambda name: name.removesuffix("_")}


class Presence(Strict):
    """An agent who looks at a conversation, types, or has left it."""

    service: Named
    agent: Agent
    state: Literal["viewing", "typing", "left"]
    since: Time
    expires_at: Time


class Warned(Strict):
    """Somebody else is at it (rule D2), or wrote meanwhile (D3: with `sequence` and `count`). Nothing is blocked."""

    code: str
    agent: Agent | None
    service: Named | None
    since: Time | None
    sequence: int = MAYBE
    count: int = MAYBE


class Address(Strict):
    """Where somebody can be reached."""

    type: str
    value: str


class Contact(Strict):
    """A customer, and all their addresses."""

    id: ContactId
    name: str | None
    addresses: list[Address]
    erased: Literal[True] = MAYBE


class Person(Contact):
    """The same, as profiles are answered."""


Json = dict[str, Any]
"""An object of a provider's, or of a service's own, handed on as it is."""
