"""What may be asked of links, validated: every fault at once (rules F, H1)."""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from hub.domain.addresses import Address, is_e164
from hub.domain.declared import parse_email
from hub.domain.errors import Invalid
from hub.domain.link_marks import LinkWishes, Marks
from hub.domain.link_targets import MAX_LENGTH, check_target
from hub.domain.rewriting import WHY, ShortLinks
from hub.domain.untracked import why_untracked
from hub.http.schemas import Model, Name, clean

MAX_LINKS: Final = 500
"""Links that one request may ask for."""
_MAX_SKIPPED: Final = 100
_PHONE_MEDIA: Final = frozenset({"whatsapp", "sms"})


def _http(value: str) -> str:
    if not value.lower().startswith(("http://", "https://")):
        raise ValueError("is a link as it is written in the message: http:// or https://")
    return value


WrittenLink = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_LENGTH), BeforeValidator(clean), AfterValidator(_http)
]


class UtmIn(Model):
    """What is added to a link's target as `utm_...`, where it has none of its own."""

    source: Name | None = None
    medium: Name | None = None
    campaign: Name | None = None
    term: Name | None = None
    content: Name | None = None

    def params(self, campaign: str | None) -> dict[str, str]:
        """By the names in the URL; the campaign of the message is the default."""
        given = self.model_dump(exclude_none=True)
        if campaign:
            given.setdefault("campaign", campaign)
        return {f"utm_{name}": given[name] for name in UtmIn.model_fields if name in given}


class LinksIn(Model):
    """How the links of one message are treated."""

    track: Annotated[bool, Field(strict=True)] = True
    skip: list[WrittenLink] = Field(default_factory=list, max_length=_MAX_SKIPPED)
    utm: UtmIn | None = None
    never_more_segments: Annotated[bool, Field(strict=True)] = False

    def wishes(self, campaign: str | None, marks: Marks) -> LinkWishes:
        """The same for the message's campaign, with what is marked in its content."""
        utm = self.utm.params(campaign) if self.utm else {}
        return LinkWishes(self.track, frozenset(self.skip), utm, self.never_more_segments, marks)


class LinkIn(Model):
    """A link for a message that the hub does not send. Validated with a `ShortLinks` as the context."""

    url: Annotated[str, BeforeValidator(clean)]
    address: Annotated[str, BeforeValidator(clean)] | None = None
    medium: Literal["whatsapp", "sms", "email"] | None = None
    campaign: Name | None = None
    utm: UtmIn | None = None

    @field_validator("url")
    @classmethod
    def _is_trackable(cls, value: str, info: ValidationInfo) -> str:
        host = info.context
        assert isinstance(host, ShortLinks)
        try:
            target = check_target(value, host.own_domains)
        except Invalid as refusal:
            raise PydanticCustomError(refusal.code, "{why}", {"why": refusal.detail}) from None
        if why := why_untracked(value, host.name, host.own_domains):
            raise PydanticCustomError("link_not_trackable", "cannot be tracked: {why}", {"why": WHY[why]})
        return target

    @field_validator("address")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is not None and address_of(value) is None:
            raise ValueError("is an email address, or a number in international form, such as +4915112345678")
        return value

    @field_validator("medium")
    @classmethod
    def _reaches_the_address(cls, value: str | None, info: ValidationInfo) -> str | None:
        address = address_of(info.data.get("address") or "")
        if address and value and (value in _PHONE_MEDIA) != (address.type == "phone"):
            raise ValueError(f"an address of type {address.type} is not reached over {value}")
        return value


class LinkBatchIn(Model):
    """Many of them, all made or none."""

    links: list[LinkIn] = Field(min_length=1, max_length=MAX_LINKS)


def address_of(text: str) -> Address | None:
    """An email address, or a number in international form; None: neither."""
    return Address("phone", text) if is_e164(text) else parse_email(text)
