"""Customers as whole profiles, their browsers, and all that is known of them (rules B8, C3, H5)."""

from typing import Annotated, Any, Literal

from pydantic import Field

from hub.domain.addresses import AddressType
from hub.domain.consent import Kind, Source
from hub.http.answers.base import (
    MAYBE,
    ChannelId,
    ContactId,
    ConversationId,
    LinkId,
    MessageId,
    Phone,
    ServiceId,
    Strict,
    Time,
    VisitorId,
)
from hub.http.answers.consents import Medium, Status
from hub.http.answers.identity import CandidateId, Operation
from hub.http.answers.messages import Conversation, FullMessage, OneMessage
from hub.http.answers.people import Address, Named


class KnownAddress(Strict):
    """An address of a profile, and how it came to be that."""

    type: AddressType
    value: str
    standing: Literal["unconfirmed", "declared", "proved"] = Field(
        description="Typed into a browser; declared properly; proved by use. The last two own it."
    )
    contact_id: ContactId = Field(description="The contact it was written for: the profile's own, or a merged one.")
    since: Time


class FormerAddress(Strict):
    """An address that WhatsApp said was changed."""

    type: AddressType
    value: str
    contact_id: ContactId
    since: Time
    until: Time


class MergedContact(Strict):
    """A contact that is part of the profile by now."""

    id: ContactId
    merged_into: ContactId
    name: str | None
    created_at: Time


class AddressConsent(Strict):
    """What holds for one address, on all numbers or on one."""

    medium: Medium
    address: str
    number: Phone | None = Field(description="Null: all numbers of which nothing else is said here.")
    status: Status
    marketing_stopped: bool
    since: Time | None


class Trait(Strict):
    """What a service says of a contact."""

    name: str
    value: Any
    service: Named
    updated_at: Time


class ExternalId(Strict):
    """What a service calls a contact."""

    external_id: str
    service: Named
    verified: bool
    since: Time


class BoundBy(Strict):
    """What bound a browser to a contact."""

    type: Literal["click", "declaration"]
    link_id: Annotated[LinkId, Field(description="Of a click: the link's.")] = MAYBE


class Binding(Strict):
    """When a browser was which contact, and how that is known."""

    visitor_id: VisitorId
    contact_id: ContactId
    since: Time
    until: Time | None = Field(description="Null: still is.")
    trust: Literal["click", "declared", "verified"]
    by: BoundBy
    bound_at: Time


class FlagSubject(Strict):
    """What is for people to look at."""

    type: Literal["contact", "visitor"]
    id: str


class Flag(Strict):
    """Something over a limit."""

    subject: FlagSubject
    reason: str
    since: Time


class ContactCandidate(Strict):
    """Another contact that may be the same person."""

    id: CandidateId
    contact_id: ContactId
    reason: str
    since: Time


class Profile(Strict):
    """A whole profile."""

    id: ContactId
    requested_id: ContactId = Field(description="As asked for; another than `id` where that was merged into this one.")
    name: str | None
    created_at: Time
    erased: bool
    erased_at: Time | None
    merged: list[MergedContact]
    addresses: list[KnownAddress]
    former_addresses: list[FormerAddress]
    consents: list[AddressConsent]
    tracked: bool = Field(description="Whether links to them and their visits are tracked now.")
    traits: list[Trait] = Field(description="A service's own; to the operator those of all.")
    external_ids: list[ExternalId]
    bindings: list[Binding]
    flags: list[Flag]
    candidates: list[ContactCandidate] = Field(description="Those of which one may know the other contact, too.")


class Profiles(Strict):
    """Profiles that an address leads to, its owner first."""

    items: list[Profile]


# Browsers and visits ------------------------------------------------------------------------------------------------


class Visit(Strict):
    """What a browser reported of a visit."""

    type: Literal["web.page", "web.engaged"]
    at: Time
    url: str
    title: str | None
    referrer: str | None
    session: str


class VisitOfContact(Visit):
    """A visit, and whose it was."""

    contact_id: ContactId | None


class VisitOfVisitor(Visit):
    """A visit, and by which browser."""

    visitor_id: VisitorId


class Visitor(Strict):
    """A browser: who it was and when, and its visits, newest first."""

    id: VisitorId
    created_at: Time
    seen_at: Time
    bindings: list[Binding]
    flags: list[Flag]
    visits: list[VisitOfContact]
    next: str | None = Field(description="The `before` of the next page.")


class VisitedLink(Strict):
    """The link of a click; where to is its author's affair, and of those it shares with."""

    id: LinkId
    target: str = MAYBE


class LinkClick(Strict):
    """A click that a visit followed."""

    type: Literal["link.click"]
    at: Time
    link: VisitedLink
    message_id: MessageId | None
    visitor_id: VisitorId


class ContactTimeline(Strict):
    """A page of all that was said with a contact, over all media and numbers, and of what they did on the web."""

    items: list[OneMessage | VisitOfVisitor | LinkClick]
    next: str | None = Field(description="Goes on in the same direction; null when there is no more.")
    before: str | None = Field(description="Goes on from the page's older end.")
    after: str | None = Field(description="Goes on from its newer end.")
    conversations: list[Conversation]


# Export and erasure -------------------------------------------------------------------------------------------------


class ContactRef(Strict):
    """A contact by its id."""

    id: ContactId


class OwnExport(Strict):
    """What a service brought itself."""

    contact: ContactRef
    external_ids: list[ExternalId]
    traits: list[Trait]


class ExportedConsent(Strict):
    """Something that was said of consent."""

    medium: Medium
    address: str
    number: Phone | None
    kind: Kind
    source: Source
    service: ServiceId | None
    evidence: str | None
    at: Time


class ExportedTalk(Strict):
    """A conversation with all its messages, in full."""

    id: ConversationId
    channel_id: ChannelId
    number: Phone
    medium: Literal["whatsapp", "sms"]
    contact_id: ContactId
    created_at: Time
    messages: list[FullMessage]


class ExportedLink(Strict):
    """A link that was sent to the customer."""

    id: LinkId
    target: str
    service: ServiceId | None
    message_id: MessageId | None
    campaign: str | None
    created_at: Time


class Export(Strict):
    """Everything that is known of a customer, in full."""

    exported_at: Time
    contact: Profile
    consent_history: list[ExportedConsent]
    conversations: list[ExportedTalk]
    visits: list[VisitOfVisitor]
    clicks: list[LinkClick]
    links: list[ExportedLink]
    operations: list[Operation]


class OwnErased(Strict):
    """How much of what a service brought is gone."""

    id: ContactId
    external_ids: int
    traits: int


class ContactErased(Strict):
    """What is left of a customer."""

    id: ContactId
    name: None
    addresses: list[Address] = Field(max_length=0)
    erased: Literal[True]
    erased_at: Time
