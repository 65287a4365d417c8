"""Who is one person: candidates for a merge, the ledger of what was done, and undoing it (rules I)."""

from typing import Annotated, Literal

from pydantic import Field

from hub.domain.consent import Kind
from hub.http.answers.base import MAYBE, ContactId, LinkId, Page, Strict, Time, VisitorId, id_of
from hub.http.answers.people import Address, Contact, Named

CandidateId = Annotated[str, id_of("mrg")]
OperationId = Annotated[str, id_of("op")]


class MergeCandidate(Strict):
    """Two contacts that may be one person, as the profiles they are by now."""

    id: CandidateId
    reason: str = Field(description="The rule that says so.")
    proper: bool = Field(description="Declared by a backend or signed, not typed into a browser.")
    since: Time
    contacts: list[Contact]


class Merged(Strict):
    """Two contacts that are one now."""

    operation_id: OperationId = Field(description="Undo it by this id.")
    contact: Contact
    merged_id: ContactId


class ChangeSubject(Strict):
    """What was flagged."""

    type: Literal["contact", "link", "visitor"]
    id: str


class Change(Strict):
    """One change that an operation made; which fields there are, its type says."""

    type: Literal[
        "contact_created", "address_added", "address_confirmed", "address_removed", "visitor_bound", "binding_ended",
        "binding_retracted", "binding_raised", "link_claimed", "flagged", "merge_suggested", "consent_changed",
        "contacts_merged",
    ]  # fmt: skip
    reason: str
    contact_ids: list[ContactId]
    address: Address = MAYBE
    standing: Literal["unconfirmed", "declared", "proved"] = MAYBE
    visitor_id: VisitorId = MAYBE
    since: Time | None = MAYBE
    until: Time | None = MAYBE
    trust: Literal["click", "declared", "verified"] = MAYBE
    link_id: LinkId = MAYBE
    subject: ChangeSubject = MAYBE
    proper: bool = MAYBE
    status: Kind = MAYBE
    medium: Literal["whatsapp", "sms", "email", "tracking"] = MAYBE


class Operation(Strict):
    """What was done to a profile: on whose word, by which rule, and every change."""

    id: OperationId
    kind: Literal["click", "declaration", "merge", "erasure"]
    source: str = Field(
        description="`click`, `browser`, `signature`, `service`, `operator`, `switch` (AUTO_MERGE) or `provider`."
    )
    rule: str
    service: Named | None
    visitor_id: VisitorId | None
    at: Time
    undone_at: Time | None
    undone_by: str | None
    changes: list[Change]


class Undone(Strict):
    """An operation that was taken back."""

    operation_id: OperationId
    kind: str
    rule: str
    undone_at: Time


class MergeCandidates(Page[MergeCandidate]):
    """Pairs by age."""


class Operations(Page[Operation]):
    """What was done, the last first."""
