"""All that decides whether a message may go, read in the transaction that acts on it (rules E2 to E5)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from hub.actions import consents
from hub.domain.policy import SendFacts
from hub.store import conversations, numbers, subscriptions
from hub.store.contacts import Contact
from hub.store.conversations import ConversationState
from hub.store.pool import Connection, Record


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel, locked FOR SHARE, and who is on it."""

    row: Record
    members: list[Record]

    def has(self, service_id: UUID) -> bool:
        """Whether this service is connected to it."""
        return any(row["service_id"] == service_id for row in self.members)


async def lock_channel(conn: Connection, channel_id: UUID) -> Channel:
    """Keep a channel's parenthood as it is to the end of the transaction (E2)."""
    row = await numbers.share_channel(conn, channel_id)
    assert row is not None
    return Channel(row, await subscriptions.list_members(conn, channel_id))


async def read_facts(
    conn: Connection, state: ConversationState, channel: Channel, contact: Contact, *, service_id: UUID, origin: str,
    epoch: int | None, kind: str, content: dict[str, Any], sender: Record | None,
) -> SendFacts:  # fmt: skip
    """The facts about one message; its conversation is locked."""
    template = content.get("template") if kind == "template" else None
    return SendFacts(
        origin=origin,
        service_id=service_id,
        medium=state.medium,
        channel_kind=channel.row["kind"],
        parent=subscriptions.parent_of(channel.members, channel.row["parent_epoch"]),
        parent_epoch=channel.row["parent_epoch"],
        claimed_epoch=epoch,
        last_customer_at=await conversations.find_last_customer_at(
            conn, state.contact_id, state.number_id, state.medium
        ),
        is_free_form=template is None,
        consent=await consents.find_consent(conn, contact, state.medium, state.number_id, state.reply_to),
        is_marketing=template is not None and _is_marketing(template, origin),
        standalone_may_automate=channel.row["standalone_may_automate"],
    )


def _is_marketing(template: Mapping[str, Any], origin: str) -> bool:
    """Whether the provider counts it as marketing; of a category we have not read yet, a campaign is taken to be."""
    category = template.get("category")
    return category == "marketing" or (category is None and origin == "campaign")
