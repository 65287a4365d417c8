"""What a service is told of whom it identified (rules I1 to I7)."""

from typing import Annotated, Literal

from pydantic import Field

from hub.http.answers.base import MAYBE, ContactId, Strict, Time, VisitorId
from hub.http.answers.people import Contact


class Candidate(Strict):
    """Two profiles that may be one person."""

    id: Annotated[str, Field(pattern="^mrg_[0-9a-f]{32}$")]
    contact_ids: list[ContactId]
    reason: str
    proper: bool
    since: Time


class Forgotten(Strict):
    """The request is repeated, and whom it was about was erased since (rule H5)."""

    erased: Literal[True]


class Identified(Strict):
    """The profile, by which rule it was found or made, and whom it may be the same as."""

    contact: Contact
    created: bool
    rule: str
    notes: list[str]
    operation_id: str | None
    candidates: list[Candidate]
    visitor_id: VisitorId = MAYBE
