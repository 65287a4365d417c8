"""Numbers, channels and connections, as answers show them (rules A2 to A11)."""

from typing import Any, Literal

from hub.http.answers.base import MAYBE, ChannelId, EventId, Medium, Page, Phone, ServiceId, Strict, Time

Role = Literal["parent", "subscriber", "standalone"]
State = Literal["active", "paused"]


class Problem_(Strict):  # noqa: N801  the other one is the problem document
    """What is wrong with a sender, since when; see /docs/providers#sender-health."""

    code: str
    detail: str
    since: Time


class Health(Strict):
    """How a sender is at its provider."""

    state: Literal["ok", "degraded", "down"]
    problems: list[Problem_]
    facts: dict[str, Any]


class CheckedHealth(Health):
    """The same, and when the provider was asked last."""

    checked_at: Time | None


class Sender(Strict):
    """A provider's account behind a number."""

    medium: Medium
    provider: str
    is_active: bool
    health: CheckedHealth


class Parent(Strict):
    """The service whose automation may speak (rule E2)."""

    service_id: ServiceId
    name: str
    since: Time
    epoch: int


class Subscriber(Strict):
    """A service on the channel."""

    service_id: ServiceId
    name: str
    role: Role
    state: State
    connected_at: Time


class Connection(Strict):
    """A service's connection, and the channel it is on."""

    role: Role
    state: State
    paused_reason: str | None
    paused_at: Time | None
    endpoint_url: str | None
    event_types: list[str] | None
    display: Literal["masked", "full"]
    share: Literal["none", "all"] | list[ServiceId] | None
    effective_share: Literal["none", "all"] | list[ServiceId]
    on_exhausted: Literal["continue", "hold"]
    channel_id: ChannelId
    kind: Literal["shared", "standalone"]
    parent: Parent | None
    parent_epoch: int
    subscribers: list[Subscriber]


class Connected(Connection):
    """The same; `signing_secret` is told when a subscription is made, and never again but by rotation."""

    signing_secret: str = MAYBE


class NewSecret(Strict):
    """A new signing secret; the old one is used beside it for so many seconds."""

    signing_secret: str
    overlap_seconds: int


class Lag(Strict):
    """How far deliveries are behind."""

    events: int | None
    seconds: float


class Counts(Strict):
    """Attempts by outcome, of late."""

    delivered: int
    refused: int
    failed: int
    gone: int


class Gap(Strict):
    """Events that the log dropped before they were delivered."""

    after_event_id: EventId
    upto_event_id: EventId


class NotedGap(Gap):
    """The same, and since when that is known."""

    noted_at: Time


class Delivery(Strict):
    """How deliveries to a subscription go; `breaker` and `lag` are null where no process delivers just now."""

    state: str
    paused_reason: str | None
    paused_at: Time | None
    breaker: str | None
    retry_at: Time | None
    in_flight: int
    lag: Lag | None
    parked_lanes: int
    attempts: Counts
    last_delivered_at: Time | None
    last_error: str | None
    last_error_at: Time | None
    failing_since: Time | None
    expired: list[NotedGap]


class Unconnected(Strict):
    """A number that this service is not connected to."""

    e164: Phone
    senders: list[Sender]
    role: None
    channel_id: None


class ConnectedNumber(Connection):
    """A number that this service is connected to."""

    e164: Phone
    senders: list[Sender]


class WatchedNumber(ConnectedNumber):
    """The same, and how its deliveries go."""

    delivery: Delivery = MAYBE


Number = Unconnected | WatchedNumber


class Numbers(Page[Unconnected | ConnectedNumber]):
    """Numbers of the organisation by age."""


class TemplateSender(Strict):
    """Whose template it is."""

    medium: Medium
    provider: str


class Template(Strict):
    """A template, as the provider lists it."""

    sender: TemplateSender
    id: str
    name: str
    language: str | None
    category: str | None
    status: str
    content: Any


class TemplateTrouble(Strict):
    """Why a provider's list could not be read anew."""

    code: str
    detail: str
    reason: str = MAYBE
    provider: str = MAYBE
    provider_code: str | None = MAYBE


class TemplateSource(Strict):
    """How fresh the list of one sender is."""

    medium: Medium
    provider: str
    refreshed_at: Time | None
    stale: bool
    error: TemplateTrouble | None


class Templates(Strict):
    """Templates of a number, as they were read last."""

    items: list[Template]
    next: str | None
    refreshed_at: Time | None
    stale: bool
    senders: list[TemplateSource]
