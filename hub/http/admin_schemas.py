"""What the operator's API takes about services and numbers, validated (rules A1 to A6, H1)."""

from typing import Annotated, Final, Literal, get_args

from pydantic import (
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from hub.domain.addresses import is_e164
from hub.http.schemas import E164, Model, Name, ServiceText, clean

Scope = Literal["read", "reply", "automate", "profiles"]
Medium = Literal["whatsapp", "sms"]
Rate = Annotated[float, Field(ge=0.001, le=1000, strict=True, description="Messages a second; null: the medium's.")]
Account = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{1,32}$"),
    Field(description="Meta only: the WhatsApp business account, by which its templates are listed."),
]
Plan = Annotated[Name, Field(description="Decides whether it shares a number (rule A3): as shipped, `bundle` does.")]
Product = Annotated[Name, Field(description="May exclude it from sharing.")]
Upgraded = Annotated[bool, Field(strict=True, description="True: it does not share.")]


class ServiceIn(Model):
    """A service to register."""

    model_config = Model.model_config | {
        "json_schema_extra": {"examples": [{"name": "helpdesk", "plan": "bundle", "scopes": ["read", "reply"]}]}
    }

    name: Name = Field(description="Shown to the other services as the author of what it writes.")
    plan: Plan
    product: Product | None = None
    upgraded_from_standalone: Upgraded = False
    scopes: list[Scope] = Field(default=["read", "reply", "automate"], max_length=4)


class ServiceChangeIn(Model):
    """What is to be different about a service; what is not named stays."""

    name: Name = ""
    plan: Plan = ""
    product: Product | None = None
    upgraded_from_standalone: Upgraded = False
    scopes: list[Scope] = Field(default=[], max_length=4)


class SenderIn(Model):
    """One sender of a number: phone_number_id at Meta; E.164 or a messaging service at Twilio."""

    medium: Medium
    provider: Literal["meta", "twilio"]
    external_id: Name = Field(description="Meta: the phone_number_id. Twilio: the number, or a messaging service.")
    rate: Rate | None = None
    account: Account | None = None

    @field_validator("provider")
    @classmethod
    def _has_the_medium(cls, value: str, info: ValidationInfo) -> str:
        if value == "meta" and info.data.get("medium") == "sms":
            raise ValueError("Meta sends WhatsApp only")
        return value

    @field_validator("external_id")
    @classmethod
    def _is_of_the_provider(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("provider") == "twilio" and not (value.startswith("MG") or is_e164(value)):
            raise ValueError("at Twilio a sender is a number in international form or a messaging service (MG...)")
        return value

    @field_validator("account")
    @classmethod
    def _is_at_meta(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("provider") == "twilio":
            raise ValueError("only a sender at Meta belongs to a WhatsApp business account")
        return value


class SenderChangeIn(Model):
    """What is to be different about a sender; what is not named stays."""

    rate: Rate | None = None
    account: Account | None = None
    is_active: bool = Field(default=True, strict=True, description="False: nothing is sent by it.")


class NumberIn(Model):
    """A number of the business, with its senders (A1)."""

    model_config = Model.model_config | {
        "json_schema_extra": {
            "examples": [
                {
                    "e164": "+15550001111",
                    "senders": [
                        {"medium": "whatsapp", "provider": "meta", "external_id": "100000000000001"},
                        {"medium": "sms", "provider": "twilio", "external_id": "+15550001111"},
                    ],
                }
            ]
        }
    }

    e164: E164
    senders: list[SenderIn] = Field(min_length=1, max_length=10, description="At most one of a medium.")

    @field_validator("senders", mode="wrap")
    @classmethod
    def _one_per_medium(cls, value: object, handler: ValidatorFunctionWrapHandler) -> list[SenderIn]:
        """Judged also where a sender has faults of its own: all faults at once (H1)."""
        media = [entry.get("medium") for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
        twice = any(media.count(medium) > 1 for medium in get_args(Medium))
        try:
            senders: list[SenderIn] = handler(value)
        except ValidationError as error:
            if twice:
                raise _with_another(error, _TWO_SENDERS) from None
            raise
        if twice:
            raise _TWO_SENDERS
        return senders


_TWO_SENDERS: Final = PydanticCustomError(
    "two_senders", "At most one sender per medium is active on a number (rule A1): leave one of them out"
)


def _with_another(error: ValidationError, fault: PydanticCustomError) -> ValidationError:
    """The same faults and one more, of the whole field."""
    faults = [
        InitErrorDetails(type=PydanticCustomError(found["type"], found["msg"]), loc=found["loc"], input=None)
        for found in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    return ValidationError.from_exception_data(error.title, [*faults, InitErrorDetails(type=fault, input=None)])


class NumberChangeIn(Model):
    """What is to be different about a number; null stays as it is."""

    default_share: Literal["none", "all"] | None = Field(
        default=None, description="What services of the shared channel share that did not say it themselves (rule C2)."
    )
    standalone_may_automate: bool | None = Field(
        default=None, strict=True, description="Services on channels of their own may automate, too (rule A3)."
    )


class HandOverIn(Model):
    """Who is to be the parent, and why (A6)."""

    service_id: ServiceText = Field(description="The subscriber that becomes the parent.")
    note: Annotated[str, BeforeValidator(clean), StringConstraints(max_length=1000)] | None = Field(
        default=None, description="Told to all services of the channel, and kept in the audit trail."
    )
