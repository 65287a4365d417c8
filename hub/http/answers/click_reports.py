"""What became of tracked links (rules C1, K)."""

from typing import Annotated, Literal

from pydantic import Field

from hub.http.answers.base import MAYBE, LinkId, MessageId, Page, Strict, Time
from hub.http.answers.people import Named


class Verdicts(Strict):
    """How many clicks were taken for what."""

    kind: str = Field(description="`person`, `preview`, `scanner` and so on.")
    reason: str
    clicks: int


class Clicks(Strict):
    """Clicks, and those of people among them."""

    people: int = Field(description="Clicks of people.")
    unique: int = Field(description="Of how many different browsers.")
    first_at: Time | None
    last_at: Time | None
    verdicts: list[Verdicts] = Field(description="All clicks, the most frequent verdict first.")


class LinkReport(Strict):
    """A tracked link and what became of it. Masked, it does not say where the link leads."""

    id: LinkId
    message_id: MessageId | None
    medium: Literal["whatsapp", "sms", "email"] | None
    target: str = MAYBE
    place: Annotated[str | None, Field(description="Where in the message it stands, as a JSON pointer.")] = MAYBE
    campaign: str | None = MAYBE
    created_at: Time
    state: Literal["identifies", "redirects", "expired", "disabled"] = Field(
        description="`redirects`: it leads to its target, and does not say whom it was sent to."
    )
    disabled_at: Time | None
    is_personal: bool
    suspect: bool = Field(description="A stranger's preview fetched it, or too many browsers came with it.")
    masked: Annotated[Literal[True], Field(description="It is another service's, who does not share it.")] = MAYBE
    clicks: Clicks
    visits: int
    bound: int = Field(description="Browsers that are known to be the customer's by it.")


class LinksTotal(Strict):
    """All links of a message together: a visitor who followed two of them is one."""

    links: int
    clicks: Clicks
    visits: int
    bound: int


class MessageLinks(Strict):
    """The links of a message, in the order in which they were made."""

    message_id: MessageId
    items: list[LinkReport]
    total: LinksTotal


class CampaignItem(Strict):
    """What became of the links of one message of a campaign, or of one that was made by itself."""

    message_id: MessageId | None
    link_id: Annotated[LinkId, Field(description="Of a link that was made by itself.")] = MAYBE
    links: int
    clicks: Clicks
    visits: int
    identified: int = Field(description="Contacts who came.")


class CampaignTotal(Strict):
    """All of a campaign."""

    messages: int
    links: int
    clicks: Clicks
    visits: int
    identified: int


class CampaignReport(Strict):
    """What became of a campaign, by message in the order in which they were written."""

    campaign: str
    items: list[CampaignItem]
    total: CampaignTotal | None = Field(description="Null on all pages but the first.")
    next: str | None


class Campaigned(Strict):
    """A campaign that has links."""

    name: str
    first_at: Time = Field(description="When its first message with a link was written.")
    last_at: Time


class AnyCampaign(Campaigned):
    """A campaign that has links, and whose it is."""

    service: Named


class Campaigns(Page[Campaigned]):
    """Campaigns by name."""


class AnyCampaigns(Page[AnyCampaign]):
    """Campaigns by service and name."""
