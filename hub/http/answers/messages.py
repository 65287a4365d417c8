"""Messages as answers and events show them: in full, or masked (rule C1)."""

from typing import Annotated, Any, Literal

from pydantic import Field

from hub.http.answers.base import MAYBE, ConversationId, LinkId, Medium, MessageId, Page, Strict, Time
from hub.http.answers.people import Agent, Author, Contact, Holder, Json, Waiting, Warned

Status = Literal["queued", "sending", "sent", "delivered", "read", "failed", "cancelled", "unknown"]
Origin = Literal[
    "customer", "echo", "external", "agent", "chatbot", "auto_reply", "workflow", "notification", "scheduled",
    "campaign",
]  # fmt: skip


class MessageError(Strict):
    """Why a message failed: `code` is one of `/docs/errors#why-a-message-failed`."""

    code: str
    title: str | None = MAYBE
    detail: str | None = MAYBE
    provider_code: str | None = MAYBE


class File(Strict):
    """A file of a message; `url` is signed for the reader alone, and expires."""

    id: str = MAYBE
    mime_type: str | None = MAYBE
    filename: str | None = MAYBE
    sha256: str | None = MAYBE
    size: int | None = MAYBE
    state: str = MAYBE
    url: str | None = MAYBE
    voice: Literal[True] = MAYBE
    animated: Literal[True] = MAYBE


class Quoted(Strict):
    """The message that another is about."""

    provider_id: str | None = MAYBE
    message_id: MessageId | None = MAYBE
    from_: Annotated[str, Field(alias="from")] = MAYBE


class Reacted(Quoted):
    """A reaction that a service sent; an empty emoji takes one back."""

    emoji: str | None = MAYBE


class Base(Strict):
    """What is visible of every message."""

    id: MessageId
    direction: Literal["inbound", "outbound"]
    medium: Medium
    type: str
    origin: Origin
    sequence: int | None = MAYBE
    author: Author | None
    agent: Agent | None = MAYBE
    status: Status = MAYBE
    status_times: Annotated[dict[Status, Time], Field(description="when each status was reached")] = MAYBE
    created_at: Time = MAYBE
    send_at: Time = MAYBE
    conflict: Literal[True] = MAYBE
    erased: Literal[True] = MAYBE
    unrouted: Literal[True] = MAYBE
    reconciled: Literal[True] = MAYBE


class MaskedMessage(Base):
    """A message of another service that does not share it: that it was, by whom, when, and what became of it."""

    masked: Literal[True]


class FullMessage(Base):
    """A message with its content: the field that its type names, and what goes along with it."""

    provider_id: str | None = MAYBE
    provider_time: Time | None = MAYBE
    history: Literal[True] = MAYBE
    edited_at: Time = MAYBE
    deleted_at: Time = MAYBE
    campaign: str = MAYBE
    segments: int = MAYBE
    untracked_segments: int = MAYBE
    error: MessageError | None = MAYBE
    errors: list[MessageError] = MAYBE
    text: str | None = MAYBE
    preview_url: bool = MAYBE
    media: list[File] = MAYBE
    location: Json = MAYBE
    contacts: list[Any] = MAYBE
    interactive: Json = MAYBE
    button: Json = MAYBE
    template: Json = MAYBE
    reaction: Reacted = MAYBE
    order: Json = MAYBE
    system: Json = MAYBE
    call: Json = MAYBE
    handover: Json = MAYBE
    reply_to: Quoted = MAYBE
    forwarded: Literal[True] = MAYBE
    frequently_forwarded: Literal[True] = MAYBE
    referral: Json = MAYBE
    referred_product: Json = MAYBE
    sent_by: str = MAYBE
    opt_out_type: str = MAYBE
    raw: Annotated[Any, Field(description="of type `unsupported`: the provider's item as it came")] = MAYBE


class MessageLink(Strict):
    """A tracked link of a message, for its author."""

    id: LinkId
    target: str
    place: str | None


class OwnMessage(FullMessage):
    """The same with its conversation; its author also sees its links."""

    conversation_id: ConversationId
    links: list[MessageLink] = MAYBE


class OthersMessage(MaskedMessage):
    """The same with its conversation."""

    conversation_id: ConversationId


Message = MaskedMessage | FullMessage
OneMessage = OthersMessage | OwnMessage


class Accepted(Strict):
    """A message that was taken in (rule E6): not sent yet, its outcome comes as events. `erased` where the request is
    repeated after the customer was erased (rule H5).
    """

    message: OwnMessage
    warnings: list[Warned]
    erased: Literal[True] = MAYBE


class Conversation(Strict):
    """A conversation as one service sees it."""

    id: ConversationId
    channel_id: Annotated[str, Field(pattern="^chn_[0-9a-f]{32}$")]
    number: str
    medium: Medium
    contact: Contact
    last_sequence: int
    last_customer_at: Time | None
    reply_window_expires_at: Time | None
    picked_up_by: Holder | None
    pickups: list[Holder]
    held_by: str | None
    waiting_for: Waiting | None
    created_at: Time


class Conversations(Page[Conversation]):
    """Conversations by age."""


class Timeline(Strict):
    """Part of a conversation's timeline; `next` is a sequence number, or a word where it is sorted by time."""

    items: list[Message]
    next: int | str | None
    conversation: Conversation
