"""The ledger of consent (rule E5)."""

from typing import Literal

from pydantic import Field

from hub.domain.consent import Kind, Source
from hub.http.answers.base import Page, Phone, Strict, Time
from hub.http.answers.people import Address, Named

Medium = Literal["whatsapp", "sms", "email", "tracking"]
Status = Literal["granted", "revoked", "pending", "unknown"]


class ConsentSaid(Strict):
    """Something that was said of consent."""

    kind: Kind = Field(description="`replaced`: the customer gave another number, and nobody knows who has this one.")
    source: Source = Field(description="On whose word; `site` is signed by one, `browser` is not.")
    service: Named | None
    number: Phone | None = Field(description="The business's number it was said of; null for all.")
    evidence: str | None = Field(description="Shown to the operator, and to the service that gave it.")
    at: Time


class ConsentState(Strict):
    """What holds for a customer's address, and everything that was said."""

    medium: Medium
    address: str
    number: Phone | None = Field(description="Of this number; null: of all of which nothing was said in particular.")
    status: Status
    marketing_stopped: bool = Field(description="No marketing templates; all else as `status` says.")
    since: Time | None
    history: list[ConsentSaid] = Field(description="Oldest first, but for what came with an undone operation.")


class ConsentEntry(ConsentSaid):
    """An entry of the ledger."""

    id: str
    medium: Medium
    address: Address | None = Field(description="The customer's; null of one who was erased and still refuses.")


class ConsentLog(Page[ConsentEntry]):
    """Entries of the ledger, newest first."""
