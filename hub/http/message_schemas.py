"""Messages as services ask for them, validated: every fault at once (rules E1, E10, H1)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BeforeValidator, Field, StringConstraints, ValidationInfo, field_validator

from hub.domain.addresses import is_e164, is_user_id
from hub.domain.kinds import FILE_KINDS
from hub.domain.link_marks import LinkWishes, unmark
from hub.http.kind_schemas import MAX_CONTACTS, ContactIn, Files, Filled, Interactive, LocationIn, ReactionIn, Template
from hub.http.link_schemas import LinksIn
from hub.http.schemas import E164, Model, Name, clean

_FIELDS: Final[Mapping[str, tuple[str, frozenset[str]]]] = {
    "text": ("text", frozenset({"preview_url", "reply_to"})),
    **dict.fromkeys((*FILE_KINDS, "media"), ("media", frozenset({"text", "reply_to"}))),
    "template": ("template", frozenset({"reply_to"})),
    "interactive": ("interactive", frozenset({"reply_to"})),
    "location": ("location", frozenset({"reply_to"})),
    "contacts": ("contacts", frozenset({"reply_to"})),
    "reaction": ("reaction", frozenset()),
}
"""The field that each message type needs, and those it may have besides."""

_CONTENT: Final = (
    "text", "preview_url", "media", "template", "interactive", "location", "contacts", "reaction", "reply_to",
)  # fmt: skip


def _text(value: object) -> object:
    """A time is written as text: a number may be of seconds or of milliseconds."""
    if not isinstance(value, str):
        raise ValueError("is a time such as 2026-01-31T12:00:00Z")
    return value


class AgentIn(Model):
    """The person who writes, by the service's word (E3)."""

    id: Name
    name: Name | None = None


class MessageIn(Model):
    """A message to send: who says it, and the fields of its type."""

    origin: Literal["agent", "chatbot", "auto_reply", "workflow", "notification", "scheduled", "campaign"]
    agent: AgentIn | None = Field(default=None, validate_default=True)
    type: Literal[
        "text", "image", "video", "audio", "document", "sticker", "media", "template", "interactive", "location",
        "contacts", "reaction",
    ] = "text"  # fmt: skip
    text: Annotated[str, StringConstraints(min_length=1, max_length=65_536), BeforeValidator(clean), Filled] | None = (
        Field(default=None, validate_default=True)
    )
    preview_url: Annotated[bool, Field(strict=True)] | None = None
    media: Files | None = Field(default=None, validate_default=True)
    template: Template | None = Field(default=None, validate_default=True)
    interactive: Interactive | None = Field(default=None, validate_default=True)
    location: LocationIn | None = Field(default=None, validate_default=True)
    contacts: Annotated[list[ContactIn], Field(min_length=1, max_length=MAX_CONTACTS)] | None = Field(
        default=None, validate_default=True
    )
    reaction: ReactionIn | None = Field(default=None, validate_default=True)
    reply_to: Name | None = None
    parent_epoch: int | None = Field(default=None, ge=0, strict=True)
    seen_sequence: int | None = Field(default=None, ge=0, le=2**62, strict=True)
    campaign: Name | None = Field(default=None, validate_default=True)
    send_at: Annotated[AwareDatetime, BeforeValidator(_text)] | None = None
    links: LinksIn | None = None

    @field_validator("send_at")
    @classmethod
    def _is_automation(cls, value: datetime | None, info: ValidationInfo) -> datetime | None:
        if value is not None and info.data.get("origin") == "agent":
            raise ValueError("an agent's message goes now; a scheduled one has an origin of automation's (rule E1)")
        return value

    @field_validator("agent", "campaign")
    @classmethod
    def _origin_says_who(cls, value: object, info: ValidationInfo) -> object:
        if value is None and info.data.get("origin") == info.field_name:
            raise ValueError(f"a message of origin {info.field_name!r} names its {info.field_name} (rule E1)")
        return value

    @field_validator("links")
    @classmethod
    def _leaves_what_must_be_tracked(cls, value: LinksIn | None, info: ValidationInfo) -> LinksIn | None:
        template = info.data.get("template")
        if value is not None and not value.track and template is not None:
            _, marks = unmark({"template": _plain(template)})
            if marks.has_suffix:
                raise ValueError("the template has a URL that only leads somewhere if it is tracked (rule F)")
        return value

    @field_validator(*_CONTENT)
    @classmethod
    def _belongs_to_the_type(cls, value: object, info: ValidationInfo) -> object:
        kind = info.data.get("type")
        if kind is None:  # which is a fault of its own
            return value
        needed, optional = _FIELDS[kind]
        if value is None and info.field_name == needed:
            raise ValueError(f"a message of type {kind!r} has a {needed} (rule E10)")
        if value is not None and info.field_name != needed and info.field_name not in optional:
            raise ValueError(f"does not belong to a message of type {kind!r} (rule E10)")
        return value

    def content(self) -> tuple[str, dict[str, Any]]:
        """The type, and the content under the names of the events contract, without marks of links; references are
        still as they were given.
        """
        return self.type, unmark(self._marked())[0]

    def link_wishes(self) -> LinkWishes:
        """How the links in the content are to be treated."""
        _, marks = unmark(self._marked())
        return (self.links or LinksIn()).wishes(self.campaign, marks)

    def _marked(self) -> dict[str, Any]:
        found = {name: _plain(getattr(self, name)) for name in _CONTENT if getattr(self, name) is not None}
        if self.reaction is not None:
            found["reaction"] = self.reaction.model_dump()  # without an emoji it takes one back
        return found


def _plain(value: Any) -> Any:
    """A part of a message as JSON has it, without what was not said."""
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value.model_dump(exclude_none=True) if isinstance(value, Model) else value


def _recipient(value: object) -> object:
    if isinstance(value, str) and not (is_e164(value) or is_user_id(value)):
        raise ValueError("is neither a number in international form, such as +4915112345678, nor a business-scoped id")
    return value


class FirstMessageIn(MessageIn):
    """A message to somebody who may not have a conversation yet: to whom, over what, from which number."""

    medium: Literal["whatsapp", "sms"]
    to: Annotated[str, BeforeValidator(_recipient)]
    from_: E164 = Field(alias="from")

    @field_validator("to")
    @classmethod
    def _is_of_the_medium(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("medium") == "sms" and not is_e164(value):
            raise ValueError("an SMS goes to a number in international form, such as +4915112345678")
        return value
