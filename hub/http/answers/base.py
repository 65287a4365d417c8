"""What models of answers are made of."""

from typing import Annotated, Any, Final, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

T = TypeVar("T")


class Strict(BaseModel):
    """Fields that are not said here are a fault."""

    model_config = ConfigDict(extra="forbid")


def _forget_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


MAYBE: Final[Any] = Field(default=None, json_schema_extra=_forget_default)
"""The default of a field that may be absent; where it is there, it has its type and is null only if that says so."""


def id_of(prefix: str) -> Any:
    """The schema of an id of ours."""
    return WithJsonSchema({"type": "string", "pattern": f"^{prefix}_[0-9a-f]{{32}}$"})


MessageId = Annotated[str, id_of("msg")]
ConversationId = Annotated[str, id_of("cnv")]
ContactId = Annotated[str, id_of("con")]
ServiceId = Annotated[str, id_of("svc")]
ChannelId = Annotated[str, id_of("chn")]
MediaId = Annotated[str, id_of("med")]
LinkId = Annotated[str, id_of("lnk")]
VisitorId = Annotated[str, id_of("vis")]
EventId = Annotated[str, WithJsonSchema({"type": "string", "pattern": "^evt_[0-9a-f]{16}$"})]
Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
"""RFC 3339, in UTC."""
Phone = Annotated[str, WithJsonSchema({"type": "string", "pattern": r"^\+[1-9][0-9]{6,14}$"})]
Medium = Literal["whatsapp", "sms"]


class Page(Strict, Generic[T]):
    """A page of a list; `next` is where the next one begins, null at the end."""

    items: list[T]
    next: str | None
