"""Numbers, senders and subscriptions as the operator sees them (rules A1 to A6)."""

from typing import Annotated, Literal

from pydantic import Field

from hub.http.answers.base import ChannelId, Page, Phone, ServiceId, Strict, Time, id_of
from hub.http.answers.numbers import CheckedHealth, Delivery, Parent, Role, Subscriber
from hub.http.answers.people import Named

Share = Literal["none", "all"] | list[ServiceId]
SubscriptionId = Annotated[str, id_of("sub")]


class NewSender(Strict):
    """A sender as it was registered."""

    medium: Literal["whatsapp", "sms"]
    provider: Literal["meta", "twilio"]
    external_id: str
    rate: float | None
    account: str | None


class NumberMade(Strict):
    """A number that was registered, and its shared channel."""

    e164: Phone
    channel_id: ChannelId
    senders: list[NewSender]


class AdminSender(NewSender):
    """A sender, with its health in full."""

    id: str = Field(description="Names it in metrics and logs.")
    is_active: bool
    health: CheckedHealth


class NumberSenders(Strict):
    """A number with its senders."""

    e164: Phone
    senders: list[AdminSender]


class Roster(Strict):
    """A channel, its parent, and who is subscribed (rule A9)."""

    channel_id: ChannelId
    kind: Literal["shared", "standalone"]
    parent: Parent | None
    parent_epoch: int
    subscribers: list[Subscriber]


class AdminMember(Subscriber):
    """A service on a channel, and what it asked for when it connected."""

    endpoint_url: str | None
    event_types: list[str] | None
    display: Literal["masked", "full"]
    share: Share | None
    effective_share: Share
    on_exhausted: Literal["continue", "hold"]


class AdminChannel(Strict):
    """A channel over the number, and who is on it."""

    channel_id: ChannelId
    kind: Literal["shared", "standalone"]
    parent: Parent | None
    parent_epoch: int
    subscribers: list[AdminMember]
    owner_service_id: ServiceId | None


class AdminNumber(NumberSenders):
    """A number: its settings, senders and channels."""

    created_at: Time
    default_share: Literal["none", "all"]
    standalone_may_automate: bool
    channels: list[AdminChannel] = Field(description="The shared one first.")


class Subscription(Strict):
    """A service's connection to a number, and how the deliveries to it go."""

    id: SubscriptionId
    service: Named
    number: Phone
    channel_id: ChannelId
    role: Role
    endpoint_url: str | None
    on_exhausted: Literal["continue", "hold"]
    connected_at: Time
    delivery: Delivery


class AllNumbers(Page[NumberSenders]):
    """Numbers by age."""


class Subscriptions(Page[Subscription]):
    """Connections by age."""
