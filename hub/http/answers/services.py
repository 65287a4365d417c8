"""Services and their API keys, as the operator sees them (rules A3, H3)."""

from typing import Annotated, Literal

from pydantic import Field

from hub.http.answers.base import Page, ServiceId, Strict, Time, id_of

KeyId = Annotated[str, id_of("key")]
ApiKey = Annotated[str, Field(description="Shown this once: the hub keeps only a hash of it (rule H3).")]


class Service(Strict):
    """A registered service."""

    id: ServiceId
    name: str = Field(description="Shown to the other services as the author of what it writes.")
    plan: str
    product: str | None
    upgraded_from_standalone: bool
    scopes: list[Literal["read", "reply", "automate", "profiles"]]
    created_at: Time


class ServiceMade(Service):
    """A service, and its first API key."""

    api_key: ApiKey


class Key(Strict):
    """A valid API key of a service."""

    id: KeyId
    hint: str = Field(description="Its last four characters.")
    created_at: Time


class KeyMade(Key):
    """A new API key."""

    api_key: ApiKey


class Services(Page[Service]):
    """Services by age."""


class Keys(Page[Key]):
    """Valid keys by age."""
