"""What the hub's answers hold (docs/api.md): plain dictionaries, typed for editors and mypy.

Nothing is checked or dropped at run time: a field that a newer hub adds is there as well.
"""

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

Object = Mapping[str, Any]


class Agent(TypedDict):
    """A person who answers customers. `id` is the service's own, and only shown to it."""

    id: NotRequired[str]
    name: str | None


class Service(TypedDict):
    """A connected backend, as others see it."""

    id: str
    name: str


class Author(TypedDict):
    """The service that wrote a message."""

    service_id: str
    name: str


class Address(TypedDict):
    """Where a customer is reached: `type` is `phone`, `user_id`, `email`..."""

    type: str
    value: str


class ContactRef(TypedDict):
    """A customer, as conversations and events name them."""

    id: str
    name: str | None
    addresses: list[Address]
    erased: NotRequired[bool]


class Attachment(TypedDict, total=False):
    """A file of a message. `url` is signed, for this service alone, and expires."""

    id: str
    mime_type: str | None
    filename: str | None
    size: int | None
    sha256: str | None
    state: str
    url: str | None
    voice: bool
    animated: bool


class Uploaded(TypedDict):
    """A file that can be sent, as often as one likes."""

    id: str
    mime_type: str
    filename: str | None
    size: int
    sha256: NotRequired[str]
    created_at: NotRequired[str]
    expires_at: NotRequired[str | None]


class File(TypedDict):
    """What is known of a file: `state` is `pending`, `kept`, `unavailable`, `expired` or `erased`."""

    id: str
    state: str
    mime_type: str | None
    filename: str | None
    size: int | None
    sha256: str | None
    error: str | None
    created_at: str
    url: str | None


class Message(TypedDict):
    """A message as this service may see it: `masked` where the content is another service's, and not told then."""

    id: str
    direction: str
    medium: str
    type: str
    origin: str
    author: Author | None
    sequence: NotRequired[int | None]
    conversation_id: NotRequired[str]
    agent: NotRequired[Agent | None]
    status: NotRequired[str]
    status_times: NotRequired[dict[str, str]]
    created_at: NotRequired[str]
    send_at: NotRequired[str]
    masked: NotRequired[bool]
    conflict: NotRequired[bool]
    erased: NotRequired[bool]
    unrouted: NotRequired[bool]
    reconciled: NotRequired[bool]
    history: NotRequired[bool]
    provider_id: NotRequired[str | None]
    provider_time: NotRequired[str | None]
    edited_at: NotRequired[str | None]
    deleted_at: NotRequired[str | None]
    campaign: NotRequired[str | None]
    segments: NotRequired[int]
    untracked_segments: NotRequired[int]
    error: NotRequired[dict[str, Any] | None]
    errors: NotRequired[list[dict[str, Any]]]
    text: NotRequired[str]
    preview_url: NotRequired[bool]
    media: NotRequired[list[Attachment]]
    location: NotRequired[dict[str, Any]]
    contacts: NotRequired[list[dict[str, Any]]]
    interactive: NotRequired[dict[str, Any]]
    button: NotRequired[dict[str, Any]]
    template: NotRequired[dict[str, Any]]
    reaction: NotRequired[dict[str, Any]]
    order: NotRequired[dict[str, Any]]
    system: NotRequired[dict[str, Any]]
    call: NotRequired[dict[str, Any]]
    handover: NotRequired[dict[str, Any]]
    reply_to: NotRequired[dict[str, Any] | None]
    forwarded: NotRequired[bool]
    frequently_forwarded: NotRequired[bool]
    referral: NotRequired[dict[str, Any]]
    referred_product: NotRequired[dict[str, Any]]
    sent_by: NotRequired[Any]
    opt_out_type: NotRequired[str]
    raw: NotRequired[Any]
    links: NotRequired[list[dict[str, Any]]]


class Warned(TypedDict):
    """Somebody else is at the conversation, too. Nothing was blocked."""

    code: str
    agent: Agent | None
    service: Service | None
    since: str | None
    count: NotRequired[int]
    sequence: NotRequired[int]


class Sent(TypedDict):
    """A message that is queued, and who else is there."""

    message: Message
    warnings: list[Warned]
    erased: NotRequired[bool]


class Pickup(TypedDict):
    """An agent holds a conversation, until the lease ends."""

    service: Service
    agent: Agent
    since: str
    expires_at: str


Waiting = TypedDict(
    "Waiting",
    {"service": Service, "from": Service, "agent": Agent | None, "since": str, "note": NotRequired[str | None]},
)
"""Whom a conversation was passed to, and by whom."""


class Conversation(TypedDict):
    """A customer on a medium of a number."""

    id: str
    channel_id: str
    number: str
    medium: str
    contact: ContactRef
    last_sequence: int
    last_customer_at: str | None
    reply_window_expires_at: str | None
    picked_up_by: Pickup | None
    pickups: list[Pickup]
    waiting_for: Waiting | None
    held_by: str | None
    created_at: str


class PickedUp(TypedDict):
    """The pick-up, and who else is there."""

    picked_up_by: Pickup
    warnings: list[Warned]


class Released(TypedDict):
    """Whether there was something to release, and who holds it still."""

    released: bool
    picked_up_by: Pickup | None


class Present(TypedDict):
    """One's own presence until `expires_at`, and everybody else's."""

    state: str
    expires_at: str | None
    presence: list[dict[str, Any]]


class Passed(TypedDict):
    """Whom the conversation waits for now."""

    waiting_for: Waiting


class Read(TypedDict):
    """The customer's message that was marked as read."""

    message_id: str
    typing: bool


class Parent(TypedDict):
    """The service that alone may automate."""

    service_id: str
    name: str
    since: str
    epoch: int


class Subscriber(TypedDict):
    """A service of the channel."""

    service_id: str
    name: str
    role: str
    state: str
    connected_at: str


class Connected(TypedDict):
    """One's connection to a number. `parent` alone may automate."""

    role: str
    channel_id: str
    state: str
    paused_reason: str | None
    paused_at: str | None
    endpoint_url: str | None
    event_types: list[str] | None
    display: str
    share: str | list[str] | None
    effective_share: str | list[str]
    on_exhausted: str
    kind: str
    parent: Parent | None
    parent_epoch: int
    subscribers: list[Subscriber]


class Connection(Connected):
    """The same as `connect` answers it: `signing_secret` is there only where the connection is new. Keep it."""

    signing_secret: NotRequired[str]


class Number(TypedDict):
    """A number of the organisation. `role` and `channel_id` are None, and the rest missing, where not connected."""

    e164: str
    senders: list[dict[str, Any]]
    role: str | None
    channel_id: str | None
    state: NotRequired[str]
    paused_reason: NotRequired[str | None]
    paused_at: NotRequired[str | None]
    endpoint_url: NotRequired[str | None]
    event_types: NotRequired[list[str] | None]
    display: NotRequired[str]
    share: NotRequired[str | list[str] | None]
    effective_share: NotRequired[str | list[str]]
    on_exhausted: NotRequired[str]
    kind: NotRequired[str]
    parent: NotRequired[Parent | None]
    parent_epoch: NotRequired[int]
    subscribers: NotRequired[list[Subscriber]]
    delivery: NotRequired[dict[str, Any]]


class Rotated(TypedDict):
    """A new signing secret; for `overlap_seconds` the hub signs with the old one, too."""

    signing_secret: str
    overlap_seconds: float


class Template(TypedDict):
    """A template as its provider lists it."""

    id: str
    name: str
    language: str | None
    category: str | None
    status: str
    content: dict[str, Any]
    sender: dict[str, Any]


class Link(TypedDict):
    """A tracked link that was made; its short `url` is told this once."""

    id: str
    url: str
    target: str
    personal: bool
    identifies_until: str | None
    redirects_until: str | None


class LinkReport(TypedDict):
    """A link and what became of it; of another service's, where it leads is missing, and `masked` is true."""

    id: str
    message_id: str | None
    medium: str | None
    target: NotRequired[str]
    place: NotRequired[str | None]
    campaign: NotRequired[str | None]
    created_at: str
    state: str
    disabled_at: str | None
    is_personal: bool
    suspect: bool
    masked: NotRequired[bool]
    clicks: dict[str, Any]
    visits: int
    bound: int


class Consent(TypedDict):
    """What a customer agreed to."""

    medium: str
    address: str
    number: str | None
    status: str
    marketing_stopped: bool
    since: str | None
    history: list[dict[str, Any]]


class Contact(TypedDict):
    """A whole profile."""

    id: str
    requested_id: str
    name: str | None
    created_at: str
    erased: bool
    erased_at: str | None
    merged: list[dict[str, Any]]
    addresses: list[dict[str, Any]]
    former_addresses: list[dict[str, Any]]
    consents: list[dict[str, Any]]
    tracked: bool
    traits: list[dict[str, Any]]
    external_ids: list[dict[str, Any]]
    bindings: list[dict[str, Any]]
    flags: list[dict[str, Any]]
    candidates: list[dict[str, Any]]


class Identified(TypedDict):
    """Who it is, and by which rule."""

    contact: ContactRef
    created: bool
    rule: str | None
    notes: list[str]
    operation_id: str | None
    candidates: list[dict[str, Any]]
    visitor_id: NotRequired[str | None]


class Delivery(TypedDict):
    """One attempt to post an event."""

    event_id: str
    type: str | None
    at: str
    outcome: str
    http_status: int | None
    duration_ms: int | None
    detail: str | None


class Parked(TypedDict):
    """A conversation whose deliveries fail, and wait."""

    number: str
    conversation_id: str | None
    first_event_id: str
    attempts: int
    next_attempt_at: str | None
    held: bool
    last_error: str | None
    parked_at: str


class DeadLetter(TypedDict):
    """An event that was given up."""

    event_id: str
    type: str | None
    timestamp: str | None
    number: str
    conversation_id: str | None
    attempts: int
    last_error: str | None
    at: str
    holds_conversation: bool


class Replay(TypedDict):
    """Events that are delivered once more."""

    id: str
    service_id: str
    number: str
    state: str
    selection: dict[str, Any]
    progress: dict[str, Any]
    asked_by: str
    created_at: str
    finished_at: str | None
