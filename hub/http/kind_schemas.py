"""What messages consist of, kind by kind (rule E10).

Lengths and counts within a kind are Meta's, which has the only provider that takes these kinds:
https://developers.facebook.com/documentation/business-messaging/whatsapp/messages.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    StringConstraints,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_validator,
)

from hub.domain.kinds import url_fault
from hub.domain.link_marks import component_fault, is_whole_link
from hub.http.schemas import Model, Name, clean

MAX_CONTACTS: Final = 257
MAX_ROWS: Final = 10
_MAX_DEPTH: Final = 12
_MAX_PARTS: Final = 1000
_MIME: Final = r"^[A-Za-z0-9.+-]{1,100}/[A-Za-z0-9.+-]{1,100}( ?;[ -~]{0,100})?$"
_FILE_NAME: Final = re.compile(r'[^/\\\x00-\x1f\x7f"]+')


def _https(value: str) -> str:
    fault = url_fault(value)
    if fault:
        raise ValueError(fault)
    return value


def _file_name(value: str) -> str:
    if not _FILE_NAME.fullmatch(value):
        raise ValueError("is a bare file name, without a path, quotes or control characters")
    return value


def _bounded(value: object) -> object:
    """JSON that is handed on as it is: not deeper or larger than any provider's own."""
    parts, level = 0, [value]
    for _ in range(_MAX_DEPTH):
        parts += len(level)
        if parts > _MAX_PARTS:
            raise ValueError(f"has more than {_MAX_PARTS} parts")
        for part in level:
            clean(part)
        level = [inner for part in level for inner in _inner(part)]
        if not level:
            return value
    raise ValueError(f"is nested more than {_MAX_DEPTH} levels deep")


def _inner(part: object) -> list[object]:
    if isinstance(part, dict):
        return [*part.keys(), *part.values()]
    return list(part) if isinstance(part, list) else []


def _typed(value: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(value.get("type"), str):
        raise ValueError("has no type, such as header, body or button")
    return value


def _marked(value: dict[str, Any]) -> dict[str, Any]:
    fault = component_fault(value)
    if fault:
        raise ValueError(fault)
    return value


def _filled(value: str) -> str:
    if not value.strip():
        raise ValueError("holds nothing but blanks")
    return value


def _trimmed(value: str) -> str:
    if value != value.strip():
        raise ValueError("begins or ends with a blank")
    return value


def _emoji(value: str) -> str:
    if value.isascii() or any(c.isspace() or (c.isascii() and c.isalpha()) for c in value):
        raise ValueError("is no emoji")
    return value


Url = Annotated[str, BeforeValidator(clean), AfterValidator(_https)]
Component = Annotated[dict[str, Any], BeforeValidator(_bounded), AfterValidator(_typed), AfterValidator(_marked)]
Filled = AfterValidator(_filled)
"""Providers refuse what shows nothing."""
Trimmed = AfterValidator(_trimmed)
"""Meta refuses ids with blanks around them."""
Short = Annotated[str, StringConstraints(min_length=1, max_length=20), BeforeValidator(clean), Filled]
Line = Annotated[str, StringConstraints(min_length=1, max_length=60), BeforeValidator(clean), Filled]
Label = Annotated[str, StringConstraints(min_length=1, max_length=24), BeforeValidator(clean), Filled]
Body = Annotated[str, StringConstraints(min_length=1, max_length=1024), BeforeValidator(clean), Filled]
Long = Annotated[str, StringConstraints(min_length=1, max_length=4096), BeforeValidator(clean), Filled]
Variable = Annotated[str, StringConstraints(min_length=1, max_length=1600), BeforeValidator(clean)]


class FileIn(Model):
    """A file: uploaded before (`id`), or at an address that the provider can fetch."""

    url: Url | None = None
    id: Annotated[str, StringConstraints(min_length=1, max_length=100), BeforeValidator(clean)] | None = None
    filename: (
        Annotated[
            str, StringConstraints(min_length=1, max_length=240), BeforeValidator(clean), AfterValidator(_file_name)
        ]
        | None
    ) = None
    mime_type: Annotated[str, StringConstraints(pattern=_MIME)] | None = None

    @model_validator(mode="after")
    def _is_in_one_place(self) -> Self:
        if (self.url is None) == (self.id is None):
            raise ValueError("a file is named either by its url or by the id of an upload")
        return self


class MetaTemplateIn(Model):
    """A template by its name, as Meta has it; `components` in Meta's own form."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=512), BeforeValidator(clean)]
    language: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]{2,15}$")]
    components: list[Component] | None = Field(default=None, max_length=20)


class TwilioTemplateIn(Model):
    """A content template of Twilio's, and what to put into it; `track_variables` hold links to be tracked, those in
    `track_suffixes` stand behind the link host in a URL.
    """

    content_sid: Annotated[str, StringConstraints(pattern=r"^HX[0-9a-fA-F]{32}$")]
    variables: dict[Name, Variable] | None = Field(default=None, max_length=100)
    track_variables: list[Name] | None = Field(default=None, max_length=100)
    track_suffixes: list[Name] | None = Field(default=None, max_length=100)

    @field_validator("track_variables", "track_suffixes")
    @classmethod
    def _are_variables(cls, value: list[str] | None, info: ValidationInfo) -> list[str] | None:
        unknown = sorted(set(value or ()) - set(info.data.get("variables") or ()))
        if unknown and "variables" in info.data:
            raise ValueError(f"names what is no variable here: {', '.join(unknown)}")
        return value

    @field_validator("track_suffixes")
    @classmethod
    def _are_whole_links(cls, value: list[str] | None, info: ValidationInfo) -> list[str] | None:
        variables = info.data.get("variables") or {}
        for name in value or ():
            if name in (info.data.get("track_variables") or ()):
                raise ValueError(f"{name} is in track_variables, too: a variable is a link, or what follows a host")
            if not is_whole_link(variables.get(name)):
                raise ValueError(f"{name} is the whole http:// or https:// URL that the button leads to")
        return value


class ButtonIn(Model):
    """A button that answers."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=256), BeforeValidator(clean), Trimmed]
    title: Short


class ButtonsIn(Model):
    """Up to three buttons below a text."""

    type: Literal["buttons"]
    text: Body
    header: Line | None = None
    footer: Line | None = None
    buttons: list[ButtonIn] = Field(min_length=1, max_length=3)

    @field_validator("buttons")
    @classmethod
    def _are_told_apart(cls, value: list[ButtonIn]) -> list[ButtonIn]:
        _check_unique([button.id for button in value], "id")
        _check_unique([button.title for button in value], "title")
        return value


class RowIn(Model):
    """A line of a list that can be chosen."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=200), BeforeValidator(clean), Trimmed]
    title: Label
    description: Annotated[str, StringConstraints(min_length=1, max_length=72), BeforeValidator(clean)] | None = None


class SectionIn(Model):
    """Lines of a list under a title."""

    title: Label | None = None
    rows: list[RowIn] = Field(min_length=1, max_length=MAX_ROWS)


class ListIn(Model):
    """A list that opens behind a button."""

    type: Literal["list"]
    text: Long
    header: Line | None = None
    footer: Line | None = None
    button: Short
    sections: list[SectionIn] = Field(min_length=1, max_length=MAX_ROWS)

    @field_validator("sections")
    @classmethod
    def _fit_together(cls, value: list[SectionIn]) -> list[SectionIn]:
        rows = [row.id for section in value for row in section.rows]
        if len(rows) > MAX_ROWS:
            raise ValueError(f"a list has at most {MAX_ROWS} rows in all its sections")
        if len(value) > 1 and any(section.title is None for section in value):
            raise ValueError("of several sections each has a title")
        _check_unique(rows, "id")
        return value


class CtaUrlIn(Model):
    """A button that opens a page."""

    type: Literal["cta_url"]
    text: Body
    header: Line | None = None
    footer: Line | None = None
    title: Short
    url: Url
    track: Annotated[bool, Field(strict=True)] | None = None


class InteractiveIn(Model):
    """Stands for what has no known type: tells which there are, and nothing of the rest."""

    model_config = Model.model_config | {"extra": "ignore"}
    type: Literal["buttons", "list", "cta_url"]


class LocationIn(Model):
    """A place."""

    latitude: float = Field(ge=-90, le=90, strict=True, allow_inf_nan=False)
    longitude: float = Field(ge=-180, le=180, strict=True, allow_inf_nan=False)
    name: Body | None = None
    address: Body | None = None


class PersonNameIn(Model):
    """A contact's name."""

    formatted_name: Name
    first_name: Name | None = None
    last_name: Name | None = None
    middle_name: Name | None = None
    suffix: Name | None = None
    prefix: Name | None = None

    @model_validator(mode="after")
    def _has_a_part(self) -> Self:
        if not any(value for name, value in self if name != "formatted_name"):
            raise ValueError("needs a part beside its formatted_name, such as first_name, or Meta refuses the card")
        return self


class PhoneIn(Model):
    """A contact's telephone."""

    phone: Name | None = None
    type: Name | None = None
    wa_id: Name | None = None


class EmailIn(Model):
    """A contact's address for mail."""

    email: Name | None = None
    type: Name | None = None


class PageIn(Model):
    """A contact's page."""

    url: Annotated[str, StringConstraints(min_length=1, max_length=2048), BeforeValidator(clean)] | None = None
    type: Name | None = None


class AddressIn(Model):
    """Where a contact lives or works."""

    street: Name | None = None
    city: Name | None = None
    state: Name | None = None
    zip: Name | None = None
    country: Name | None = None
    country_code: Name | None = None
    type: Name | None = None


class OrganisationIn(Model):
    """Where a contact works."""

    company: Name | None = None
    department: Name | None = None
    title: Name | None = None


class ContactIn(Model):
    """A person's card, in Meta's form."""

    name: PersonNameIn
    phones: list[PhoneIn] | None = Field(default=None, max_length=20)
    emails: list[EmailIn] | None = Field(default=None, max_length=20)
    urls: list[PageIn] | None = Field(default=None, max_length=20)
    addresses: list[AddressIn] | None = Field(default=None, max_length=20)
    org: OrganisationIn | None = None
    birthday: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$")] | None = None


class ReactionIn(Model):
    """An emoji on a message of the conversation; null takes it back."""

    message_id: Annotated[str, StringConstraints(min_length=1, max_length=100), BeforeValidator(clean)]
    emoji: (
        Annotated[str, StringConstraints(min_length=1, max_length=20), BeforeValidator(clean), AfterValidator(_emoji)]
        | None
    )


def _check_unique(values: list[str], name: str) -> None:
    if len(values) != len(set(values)):
        raise ValueError(f"no two may have the same {name}")


# One model is chosen for what was sent, instead of a union of them: a union would put the names of its alternatives
# into the pointers of faults. A validation inside a validator keeps its faults' places.
_FILES: Final = TypeAdapter(Annotated[list[FileIn], Field(min_length=1, max_length=10)])
_INTERACTIVE: Final[Mapping[object, type[Model]]] = {"buttons": ButtonsIn, "list": ListIn, "cta_url": CtaUrlIn}


def _read_files(value: Any) -> list[FileIn]:
    return _FILES.validate_python(value) if isinstance(value, list) else [FileIn.model_validate(value)]


def _read_template(value: Any) -> Model:
    is_twilio = isinstance(value, dict) and "content_sid" in value
    return (TwilioTemplateIn if is_twilio else MetaTemplateIn).model_validate(value)


def _read_interactive(value: Any) -> Model:
    kind = value.get("type") if isinstance(value, dict) else None
    return _INTERACTIVE.get(kind if isinstance(kind, str) else None, InteractiveIn).model_validate(value)


Files = Annotated[list[FileIn], PlainValidator(_read_files, json_schema_input_type=FileIn | list[FileIn])]
Template = Annotated[Model, PlainValidator(_read_template, json_schema_input_type=MetaTemplateIn | TwilioTemplateIn)]
Interactive = Annotated[Model, PlainValidator(_read_interactive, json_schema_input_type=ButtonsIn | ListIn | CtaUrlIn)]
