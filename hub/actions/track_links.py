"""Verb: give a message that goes out tracked links, in the transaction that accepts it (rule F)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from hub.actions.consents import may_track
from hub.domain.errors import Conflict
from hub.domain.ids import new_id, public_id
from hub.domain.link_marks import LinkWishes, pointer
from hub.domain.link_tokens import ANONYMOUS_LENGTH, PERSONAL_LENGTH, new_token
from hub.domain.rewriting import Outgoing, Plan, ShortLinks, plan_links, rewrite
from hub.domain.tracking import Tracking
from hub.store import links
from hub.store.conversations import ConversationState
from hub.store.links import LinkDraft
from hub.store.messages import MessageDraft
from hub.store.pool import Connection


@dataclass(frozen=True, slots=True)
class Tracked:
    """A message with tracked links: how it is handed over, and its links as its author sees them."""

    form: Outgoing
    links: list[dict[str, Any]]
    is_personal: bool
    """Whether they say who clicked them."""


async def track_links(
    conn: Connection, draft: MessageDraft, state: ConversationState, wishes: LinkWishes, tracking: Tracking
) -> Tracked | None:
    """Make the links of a message and put them in place of what they lead to; None: it goes out as it was written.

    They say who clicked them only if the contact may be tracked. The caller holds the conversation's lock, and stores
    the message. Raises `Invalid` (`link_not_trackable`), `Conflict` (`links_off`).
    """
    host = short_links(tracking)
    if host is None:
        _check_no_suffix(wishes)
        return None
    message = Outgoing(draft.type, draft.content, draft.medium, draft.provider)
    if not plan_links(message, wishes, host, ANONYMOUS_LENGTH).targets:
        return None  # with the longer tokens of a contact there is no more room
    is_personal = await may_track(conn, state.contact_id, tracking.consent)
    plan = plan_links(message, wishes, host, PERSONAL_LENGTH if is_personal else ANONYMOUS_LENGTH)
    drafts = [
        _link(draft, state, target, pointer(path), is_personal=is_personal) for target, path in plan.targets.values()
    ]
    return await _tracked(conn, message, plan, host, drafts, is_personal=is_personal)


def short_links(tracking: Tracking) -> ShortLinks | None:
    """Where links are tracked; None: nowhere."""
    return ShortLinks(tracking.link_base, tracking.link_host, tracking.sites) if tracking.link_base else None


async def mint(conn: Connection, drafts: Sequence[LinkDraft]) -> dict[UUID, str]:
    """Store links under new tokens; gives the tokens, which are kept nowhere."""
    tokens: dict[UUID, str] = {}
    missing = list(drafts)
    while missing:
        tokens |= {draft.id: new_token(is_personal=draft.contact_id is not None) for draft in missing}
        stored = await links.add(conn, missing, tokens)
        missing = [draft for draft in missing if draft.id not in stored]
    return tokens


def links_off() -> Conflict:
    """The refusal of what needs a link host."""
    return Conflict(
        "This hub tracks no links (rule F): have the operator set PARTYLINE_LINK_BASE_URL, or send the link itself.",
        code="links_off",
    )


def describe_link(link_id: UUID, target: str, place: str | None) -> dict[str, Any]:
    """A link of a message as its author sees it."""
    return {"id": public_id("lnk", link_id), "target": target, "place": place}


async def list_links(conn: Connection, message_id: UUID) -> list[dict[str, Any]]:
    """The links of a message as its author sees them."""
    return [
        describe_link(row["id"], row["target"], row["place"]) for row in await links.list_of_message(conn, message_id)
    ]


def _check_no_suffix(wishes: LinkWishes) -> None:
    if wishes.marks.has_suffix:
        raise links_off()


def _link(message: MessageDraft, state: ConversationState, target: str, place: str, *, is_personal: bool) -> LinkDraft:
    """Without the contact's consent nothing in it leads to them but the message, which is for reports."""
    return LinkDraft(
        id=new_id(),
        target=target,
        created_at=max(message.created_at, message.send_at or message.created_at),
        service_id=message.author_service_id,
        number_id=message.number_id,
        channel_id=message.channel_id,
        conversation_id=state.id if is_personal else None,
        message_id=message.id,
        place=place,
        medium=message.medium,
        campaign=message.campaign,
        contact_id=state.contact_id if is_personal else None,
        destination=state.reply_to if is_personal else None,
    )


async def _tracked(
    conn: Connection, message: Outgoing, plan: Plan, host: ShortLinks, drafts: Sequence[LinkDraft], *, is_personal: bool
) -> Tracked | None:
    if not drafts:
        return None
    minted = await mint(conn, drafts)
    tokens = {url: minted[draft.id] for url, draft in zip(plan.targets, drafts, strict=True)}
    made = rewrite(message.content, plan, host, tokens)
    shown = [describe_link(draft.id, draft.target, draft.place) for draft in drafts]
    return Tracked(Outgoing(message.kind, made, message.medium, message.provider), shown, is_personal)
