"""What a provider is to the hub: the neutral vocabulary of what comes in, and the contract for what goes out.

A provider turns signed bytes into `Item` values (`Route.verify`, `Route.parse`: pure, they never raise on any
input) and an `OutboundMessage` into a send (`Provider.send`). It collects its routes and needs no server.

Errors of a send (rule E8)::

    SendError
     |- Refused        the provider said no: the message is `failed`, never sent again by itself
     |- NotTaken       certainly not accepted (connection refused, DNS, TLS, 429): may be sent again
     `- OutcomeUnknown time-out, bare 5xx, broken answer: it may have been sent; settled by the status callback
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

Medium = Literal["whatsapp", "sms"]
Origin = Literal["customer", "echo", "external"]
Scope = Literal["pair", "sender", "account"]
Status = Literal["queued", "sending", "sent", "delivered", "read", "failed", "cancelled", "unknown"]


@dataclass(frozen=True, slots=True)
class SenderRef:
    """The business's own side of an item, as the provider names it.

    `external_ids` are alternatives, the best first: Meta's phone_number_id; at Twilio the E.164 number, then the
    messaging service. Empty where the payload does not say (the item is quarantined). `account` is Meta's WhatsApp
    business account, where the webhook names it; it does not tell senders apart.
    """

    provider: str
    medium: Medium
    external_ids: tuple[str, ...]
    account: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Customer:
    """Who is at the other end, in every form the provider reported; any of them may be missing.

    `phone` is E.164 with a leading plus, exactly the digits reported (never rewritten). `user_id` is a
    business-scoped id such as `US.1349`, never a phone. `sender_id` is an identity that is neither (a short code,
    an alphanumeric SMS sender, a `wa_id` that is no number).
    """

    phone: str | None = None
    user_id: str | None = None
    parent_user_id: str | None = None
    username: str | None = None
    sender_id: str | None = None
    name: str | None = None

    @property
    def is_known(self) -> bool:
        """Whether anything at all identifies this customer."""
        return bool(self.user_id or self.phone or self.sender_id)


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """One message of a customer; or an `echo` (sent from the business's phone app), or `external` (Meta's own agent).

    `content` holds normalised fields under the names of the events contract: `text` (a string), `media` (a list),
    `location`, `contacts`, `interactive`, `button`, `order`, `reply_to`, `forwarded`, `referral`, `system`, `errors`.
    `raw` is the item's own JSON, only for `type == "unsupported"`. `cleaned` says that NUL or lone surrogates were
    taken out of a text. `at` is the provider's time in unix seconds. `opens_window`: a message of the customer's to
    this business, from which the reply window counts (rule E4); not one in a group, or of the system.
    `is_history`: from before the number was connected, to be stored without side effects; `status` is what had become
    of it by then, if the business sent it. `is_reconciled`: from the provider's list, its webhook was missed.
    """

    key: str
    sender: SenderRef
    customer: Customer
    provider_id: str | None
    at: float | None
    type: str
    content: dict[str, Any]
    origin: Origin = "customer"
    raw: str | None = None
    cleaned: bool = False
    opens_window: bool = True
    is_history: bool = False
    status: Status | None = None
    is_reconciled: bool = False


@dataclass(frozen=True, slots=True)
class MessageEdited:
    """A message (`target_id`: its provider id) has new content."""

    key: str
    sender: SenderRef
    customer: Customer
    target_id: str | None
    at: float | None
    content: dict[str, Any]
    origin: Origin = "customer"
    cleaned: bool = False


@dataclass(frozen=True, slots=True)
class MessageDeleted:
    """A message (`target_id`: its provider id) was revoked by its author."""

    key: str
    sender: SenderRef
    customer: Customer
    target_id: str | None
    at: float | None
    origin: Origin = "customer"
    cleaned: bool = False


@dataclass(frozen=True, slots=True)
class ReactionChanged:
    """A reaction to the message `target_id` was set, or removed (`emoji` is None)."""

    key: str
    sender: SenderRef
    customer: Customer
    target_id: str | None
    at: float | None
    emoji: str | None
    origin: Origin = "customer"
    cleaned: bool = False


@dataclass(frozen=True, slots=True)
class StatusReported:
    """What became of a message the business sent.

    `status` is the normalised name (rule E7: undelivered is failed, played is read, canceled is cancelled; what tells
    that the provider has it and no more, such as queued or accepted, is sending), or None where the report is to be
    recorded only (`deleted`...); `reported` is the provider's own
    word. `hub_id` is the hub's message id where the provider hands it back. `errors` hold `code` (ours, stable),
    `title`, `detail` and `provider_code`.
    """

    key: str
    sender: SenderRef
    customer: Customer
    provider_id: str | None
    hub_id: str | None
    status: Status | None
    reported: str
    at: float | None
    errors: tuple[dict[str, Any], ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    cleaned: bool = False


@dataclass(frozen=True, slots=True)
class PreferenceChanged:
    """A customer told the provider whether they want marketing messages from this sender (rule E5)."""

    key: str
    sender: SenderRef
    customer: Customer
    at: float | None
    wants_marketing: bool
    cleaned: bool = False


@dataclass(frozen=True, slots=True)
class ControlChanged:
    """A conversation was handed over: to Meta's own agent (`holder` is `external`) or to this business (`hub`).

    `content` holds the provider's own words under `handover`.
    """

    key: str
    sender: SenderRef
    customer: Customer
    at: float | None
    holder: Literal["hub", "external"]
    content: dict[str, Any]
    cleaned: bool = False


@dataclass(frozen=True, slots=True)
class IdentityChanged:
    """The provider says that a customer, known as `customer` so far, has another number or id: `now`.

    `now` names what is new only. `content` is the timeline's entry (`system`).
    """

    key: str
    sender: SenderRef
    customer: Customer
    now: Customer
    provider_id: str | None
    at: float | None
    content: dict[str, Any]
    cleaned: bool = False


@dataclass(frozen=True, slots=True)
class AccountRef:
    """Which of the business's senders a notice is about: the one with this id or number, else all of an account.

    `external_id` is Meta's phone_number_id, `phone` E.164 with a plus, `account` the WhatsApp business account.
    """

    provider: str
    account: str | None = None
    external_id: str | None = None
    phone: str | None = None


@dataclass(frozen=True, slots=True)
class TemplateChanged:
    """The provider changed a template: its `status`, `quality`, `category` or `components` (`change`).

    `content` holds `change`, `previous` and `current` (in lower case, where told), `reason`, and what else was said.
    """

    key: str
    account: AccountRef
    at: float | None
    external_id: str | None
    name: str | None
    language: str | None
    change: str
    content: dict[str, Any]
    cleaned: bool = False


@dataclass(frozen=True, slots=True)
class SenderNotice:
    """The provider says something about a sender or an account: quality, limits, restrictions, security.

    `topic` is the provider's name of the notice. `raises` are problems by their stable code with a sentence each,
    `clears` codes that hold no more; `facts` what is known now (`quality`, `messaging_limit`...). `content` holds the
    provider's own words.
    """

    key: str
    account: AccountRef
    at: float | None
    topic: str
    raises: Mapping[str, str]
    clears: frozenset[str]
    facts: Mapping[str, str]
    content: dict[str, Any]
    cleaned: bool = False


@dataclass(frozen=True, slots=True)
class Unparsed:
    """Bytes, or one item of a batch, that must be kept and looked at (rule B5).

    `reason` is a stable code. `raw` can be given to the same route's `parse` again after a fix: the whole body, or an
    envelope around the one item. With `is_note` the content itself was taken in; the entry only keeps the exact bytes.
    """

    key: str
    reason: str
    detail: str
    raw: bytes
    is_note: bool = False


Item = (
    MessageReceived
    | MessageEdited
    | MessageDeleted
    | ReactionChanged
    | StatusReported
    | PreferenceChanged
    | ControlChanged
    | IdentityChanged
    | TemplateChanged
    | SenderNotice
    | Unparsed
)
"""Everything a provider's webhook can hold."""


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """A provider's call as it arrived: `path` with its query exactly as received, header names in lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Route:
    """One webhook path of a provider.

    `repeats` tells whether the provider tries again after a 503; where it does not, the hub spools (rule B3).
    `envelopes` gives, by an item's key, a body that holds only this item, for `parse` to read again later; where it
    knows none, the whole body is kept.
    `answer` and `content_type` are what a taken webhook is answered with.
    """

    path: str
    verify: Callable[[WebhookRequest], bool]
    parse: Callable[[WebhookRequest], list[Item]]
    envelopes: Callable[[WebhookRequest], Mapping[str, bytes]]
    repeats: bool
    answer: bytes = b""
    content_type: str = "text/plain"


@dataclass(frozen=True, slots=True)
class Handshake:
    """A GET that a provider makes to prove that the path is ours; `answer` gives the body, or None to refuse."""

    path: str
    answer: Callable[[Mapping[str, str]], str | None]


@dataclass(frozen=True, slots=True)
class OutboundMedia:
    """A file to send: under the provider's own id where it was uploaded there, else at a URL the provider can fetch."""

    url: str | None = None
    provider_id: str | None = None
    mime_type: str | None = None
    filename: str | None = None


@dataclass(frozen=True, slots=True)
class OutboundMessage:
    """What the hub asks a provider to send; `sender` is the external id, one of `phone` and `user_id` is set.

    `type` and `content` as the events contract names them: `text` with `text`; `image`, `video`, `audio`, `document`,
    `sticker` with `media` (the files themselves are in `media` here) and `text` as the caption; `template`,
    `interactive`, `location`, `contacts`, `reaction`; with `reply_to` any of them quotes a message.
    """

    hub_id: str
    medium: Medium
    sender: str
    phone: str | None
    user_id: str | None
    type: str
    content: Mapping[str, Any]
    media: Sequence[OutboundMedia] = ()


@dataclass(frozen=True, slots=True)
class Upload:
    """A file for a sender to keep at the provider."""

    sender: str
    path: Path
    mime_type: str
    filename: str


@dataclass(frozen=True, slots=True)
class ReadMark:
    """A customer's message (`provider_id`) was read; with `is_typing` an answer is being written."""

    medium: Medium
    sender: str
    provider_id: str
    is_typing: bool = False


@dataclass(frozen=True, slots=True)
class Template:
    """A template as the provider has it.

    `external_id` is Meta's id or Twilio's ContentSid. `category` (`marketing`, `utility`, `authentication`) and
    `status` (`approved`, `pending`, `rejected`, `paused`, `disabled`, `unsubmitted`) are in lower case; None where the
    provider says none. `content` is the provider's own description of its parts.
    """

    external_id: str
    name: str
    language: str | None
    category: str | None
    status: str | None
    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class FoundSend:
    """A message in the provider's own list that is like one of ours; `status` is normalised, as of a status report."""

    provider_id: str
    status: Status
    reported: str
    errors: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Sent:
    """The provider took the message under `provider_id`; `status` is what it said of it at once. `phone` is the form
    of the recipient's number the provider made of ours (E.164 with a plus), where it says so.
    """

    provider_id: str
    status: Status = "sent"
    phone: str | None = None


@dataclass(frozen=True, slots=True)
class MediaRef:
    """A file of a customer's, as the provider's webhook named it: by its id, or by its address."""

    provider_id: str | None
    url: str | None


@dataclass(frozen=True, slots=True)
class MediaStream:
    """A file that is being fetched; `size` in bytes where the provider announced it."""

    mime_type: str | None
    size: int | None
    filename: str | None
    pieces: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class SenderProbe:
    """A sender to look at: its external id, the number it belongs to, and its account where that is known."""

    medium: Medium
    external_id: str
    e164: str
    account: str | None = None


@dataclass(frozen=True, slots=True)
class SenderCheck:
    """What the provider answered about a sender. `problems` by stable code, each with a sentence that names the cure;
    `judged` are all codes this check can tell: those not in `problems` do not hold. `facts` as in `SenderNotice`.
    """

    problems: Mapping[str, str]
    judged: frozenset[str]
    facts: Mapping[str, str] = field(default_factory=dict)


class SendError(Exception):
    """A send did not end in `Sent`. `code` is stable; `provider_code` and `detail` are the provider's own words."""

    def __init__(self, code: str, detail: str = "", *, provider_code: str | None = None) -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail
        self.provider_code = provider_code


class Refused(SendError):
    """A structured refusal: final."""


class NotTaken(SendError):
    """Certainly not accepted: may be sent again, after `retry_after` seconds where the provider said so.

    `scope` tells, where `code` is `throttled`, what the limit is of: the sender, its whole account, or the `pair` of
    sender and customer, which stops nobody else.
    """

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        provider_code: str | None = None,
        retry_after: float | None = None,
        scope: Scope = "sender",
    ) -> None:
        super().__init__(code, detail, provider_code=provider_code)
        self.retry_after = retry_after
        self.scope = scope


class OutcomeUnknown(SendError):
    """It may have been sent: never repeated by itself (rule E8)."""


class Provider(Protocol):
    """A messaging provider, connected: its webhooks and its sends."""

    name: str
    routes: Sequence[Route]
    handshakes: Sequence[Handshake]
    listing: Route | None
    """Reads what `list_received` gives; no path anybody can call. None: this provider lists nothing."""
    supports: Mapping[Medium, frozenset[str]]
    """What can be done over each medium (rule E10): message types to send, and `reply_to` (quoting), `read` (read
    marks), `typing`, `upload` (files are kept at the provider), `templates` (there is a list of them), `find_sent`.
    """

    async def send(self, message: OutboundMessage) -> Sent:
        """Hand one message to the provider, once, within a bounded time. Raises `SendError`."""
        ...

    async def upload(self, file: Upload) -> str:
        """Give a file to the provider to keep; gives its id there, good for 29 days at least. Raises `SendError`."""
        ...

    async def mark_read(self, mark: ReadMark) -> None:
        """Show the customer that a message was read, or that somebody is typing. Raises `SendError`."""
        ...

    async def list_templates(self, sender: str, account: str | None) -> Sequence[Template]:
        """All templates a sender may use; `account` is Meta's WhatsApp business account, where the operator named it.
        Raises `SendError`.
        """
        ...

    async def find_sent(self, message: OutboundMessage, since: datetime, until: datetime) -> Sequence[FoundSend]:
        """Every message the provider lists with this sender, recipient and content, made between these times (rule
        E8). Raises `SendError`.
        """
        ...

    def open_media(self, media: MediaRef) -> AbstractAsyncContextManager[MediaStream]:
        """Fetch a customer's file, from hosts of the provider's only. Entering raises `SendError`: `Refused`
        (`media_unavailable`, `media_host_refused`) is final. Reading the pieces may raise it, too.
        """
        ...

    async def check_sender(self, sender: SenderProbe) -> SenderCheck:
        """Ask the provider how a sender is, and whether its webhooks come here. Raises `SendError` where it cannot be
        asked just now.
        """
        ...

    async def list_received(self, since: datetime, until: datetime) -> Sequence[WebhookRequest]:
        """All that customers wrote, and what became of our messages, between these times, by the provider's clock and
        in its order; each as a webhook that `listing` parses to one item. Raises `SendError`.
        """
        ...

    async def fill_in(self, listed: WebhookRequest) -> WebhookRequest:
        """One of `list_received` with what a list leaves out and is told when asked for: its files. Its item keeps its
        key. Raises `SendError`.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
