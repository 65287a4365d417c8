"""Events: as they are posted to services, and as the feed gives them (docs/events.md). One model for each type."""

from typing import Annotated, Any, Final, Literal, Union

from pydantic import Field

from hub.domain.events import EVENT_TYPES
from hub.http.answers.base import (
    MAYBE,
    ChannelId,
    ContactId,
    ConversationId,
    EventId,
    LinkId,
    Medium,
    MessageId,
    Strict,
    Time,
    VisitorId,
)
from hub.http.answers.identify import Candidate
from hub.http.answers.messages import File, FullMessage, MaskedMessage, Origin
from hub.http.answers.numbers import Gap, Health, Parent, Role, TemplateSender
from hub.http.answers.people import Agent, Contact, Holder, Named


class Automation(Strict):
    """Whether the receiver's bots may speak now (rule A9)."""

    allowed: bool
    parent_epoch: int


class Talk(Strict):
    """The conversation, as it was when the event was logged; `sequence` is the event's own number there."""

    id: ConversationId
    medium: Medium
    sequence: int | None
    reply_window_expires_at: Time | None
    picked_up_by: Holder | None
    held_by: str | None


class Data(Strict):
    """What every event says."""

    event_id: EventId
    number: str
    channel_id: ChannelId
    automation: Automation


class About(Data):
    """What happened in a conversation."""

    conversation: Talk
    contact: Contact


class Told(Data):
    """What happened to a customer, in a conversation or outside of any."""

    conversation: Talk = MAYBE
    contact: Contact = MAYBE


class OfMessage(About):
    """About a message; it is masked for services that may not see it."""

    message: MaskedMessage | FullMessage


class Unseen(Strict):
    """A message that was edited or deleted before it came: the provider's id is all that is known of it."""

    id: None
    sequence: None
    type: None
    direction: Literal["inbound", "outbound"]
    medium: Medium
    origin: Origin
    author: None
    provider_id: str
    provider_time: Time | None
    text: str | None = MAYBE
    media: list[File] = MAYBE


class OfChange(About):
    """A message was edited or deleted by who wrote it."""

    message: MaskedMessage | FullMessage | Unseen


class OfErasedCustomer(Told):
    """What is left of any event about a customer who was erased since (rule H5)."""

    erased: Literal[True]
    message: MaskedMessage | FullMessage = MAYBE


class Reaction(Strict):
    """An emoji at a message; an empty one or null: taken back."""

    emoji: str | None = MAYBE
    origin: Origin
    message: dict[str, Any]
    provider_time: Time | None = MAYBE


class OfReaction(About):
    """About a reaction; what another service wrote is masked, and so there is none."""

    reaction: Reaction = MAYBE


class Previous(Strict):
    """Who held the conversation for the same service before."""

    agent: Agent | None
    since: Time


class Taken(Holder):
    """Who holds the conversation, and who did for the same service."""

    previous: Previous = MAYBE


class OfPickup(About):
    """Who holds the conversation."""

    pickup: Taken


class OfRelease(About):
    """Who held it, and why no more."""

    pickup: Holder
    reason: str


class OfPass(About):
    """From which service to which; the two see the note."""

    from_: Annotated[Named, Field(alias="from")]
    to: Named
    agent: Agent | None
    note: str | None = MAYBE


class Side(Strict):
    """One of the two who are at it."""

    agent: Agent | None
    service: Named | None
    since: Time


class Collision(Strict):
    """Two agents at one conversation."""

    code: str
    agents: list[Side]


class OfCollision(About):
    """Told to the two services alone."""

    collision: Collision


class HandedOver(Strict):
    """Who has the conversation now, and since when."""

    holder: str
    since: Time


class OfHandover(OfMessage):
    """Meta's own agent has the conversation, or it was given back."""

    handover: HandedOver


class OfService(Data):
    """About a service of the channel."""

    service: Named


class OfConnected(OfService):
    """It connected."""

    role: Role


class OfGone(OfService):
    """It left, or its deliveries wait, and why."""

    reason: str


class OfResumed(OfService):
    """Its deliveries go on."""

    mode: Literal["continue", "skip"]


class OfExpired(OfService, Gap):
    """Events that a paused service will not get any more."""


class OfParent(Data):
    """Another service may automate, or nobody."""

    parent: Parent | None
    previous: Named | None
    reason: str
    note: str | None = MAYBE


class OfUnrouted(Strict):
    """The last service left; the operator alone hears it."""

    event_id: EventId
    number: str
    channel_id: ChannelId


class ProfileId(Strict):
    """Whose profile it was."""

    id: ContactId


class OfErased(Told):
    """A customer was erased: overwrite what you have kept."""

    profile: ProfileId


class Consent(Strict):
    """What holds now on this number."""

    medium: Literal["sms", "whatsapp", "email", "tracking"]
    address: str
    number: str | None
    status: str
    marketing_stopped: bool = MAYBE
    source: str
    at: Time
    keyword: str | None = MAYBE


class OfConsent(Told):
    """What a customer wants to be sent has changed."""

    consent: Consent


class ClickedLink(Strict):
    """The link; where it leads, and what for, is its author's affair."""

    id: LinkId
    message_id: MessageId | None = MAYBE
    target: str | None = MAYBE
    place: str | None = MAYBE
    campaign: str | None = MAYBE


class Click(Strict):
    """That it was followed."""

    id: str
    at: Time
    verdict: str


class OfClick(Told):
    """A person followed a tracked link."""

    link: ClickedLink
    click: Click


class FoundVisitor(Strict):
    """A browser, and how well it is known to be the customer's."""

    id: VisitorId
    trust: str
    since: Time
    rule: str


class LinkName(Strict):
    """By which link."""

    id: LinkId


class OfVisitor(Told):
    """A browser turned out to be a customer's."""

    visitor: FoundVisitor
    link: LinkName | None = MAYBE


class Changed(Strict):
    """What of a profile changed, and by which rule."""

    changed: list[str]
    rule: str
    operation_id: str | None


class OfProfile(Told):
    """A profile changed."""

    profile: Changed


class OfSuggestion(Told):
    """Two profiles may be one person."""

    candidate: Candidate


class Merge(Strict):
    """Which two profiles became one, or two again."""

    contact_id: ContactId
    merged_id: ContactId
    operation_id: str
    by: str


class OfMerge(Told):
    """Two profiles are one now, or two again."""

    merge: Merge


class TemplateName(Strict):
    """A template, by the provider's name."""

    external_id: str
    name: str | None
    language: str | None


class OfTemplate(Data):
    """The provider changed a template."""

    template: TemplateName
    change: Literal["status", "quality", "category", "components"]
    previous: str | None
    current: str | None
    reason: str | None
    correct: str | None = MAYBE


class WasHealth(Strict):
    """How the sender was before."""

    state: Literal["ok", "degraded", "down"]


class OfHealth(Data):
    """A sender is worse or better than it was."""

    sender: TemplateSender
    health: Health
    previous: WasHealth


_DATA: Final[dict[str, Any]] = {
    "message.received": OfMessage,
    "message.queued": OfMessage,
    "message.status": OfMessage,
    "message.edited": OfChange,
    "message.deleted": OfChange,
    "reaction.changed": OfReaction,
    "conversation.picked_up": OfPickup,
    "conversation.released": OfRelease,
    "conversation.passed": OfPass,
    "conversation.collision": OfCollision,
    "conversation.handover": OfHandover,
    "service.connected": OfConnected,
    "service.disconnected": OfGone,
    "service.paused": OfGone,
    "service.resumed": OfResumed,
    "subscription.expired": OfExpired,
    "channel.parent_changed": OfParent,
    "channel.unrouted": OfUnrouted,
    "profile.erased": OfErased,
    "consent.changed": OfConsent,
    "link.clicked": OfClick,
    "visitor.identified": OfVisitor,
    "profile.updated": OfProfile,
    "profile.merge_suggested": OfSuggestion,
    "profile.merged": OfMerge,
    "profile.unmerged": OfMerge,
    "template.changed": OfTemplate,
    "sender.health_changed": OfHealth,
}


def _event(kind: str) -> type[Strict]:
    """The model of one event type."""
    name = "".join(part.capitalize() for part in kind.replace(".", "_").split("_"))
    data = _DATA[kind]
    if issubclass(data, About | Told):
        data |= OfErasedCustomer
    fields = {"type": Literal[kind], "timestamp": Time, "data": data}
    return type(name, (Strict,), {"__annotations__": fields, "__doc__": _DATA[kind].__doc__, "__module__": __name__})


WEBHOOKS: Final = {kind: _event(kind) for kind in EVENT_TYPES}
"""By type; those that services hear are all of them but `channel.unrouted`."""


Event = Annotated[Union[tuple(WEBHOOKS.values())], Field(discriminator="type")]  # type: ignore[valid-type]  # noqa: UP007


class Feed(Strict):
    """A page of events; `next` is where to go on, also where there are none yet."""

    items: list[Event]  # type: ignore[valid-type]
    next: str
    has_more: bool
    expired: Gap = MAYBE
