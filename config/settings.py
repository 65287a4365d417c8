"""Settings, read from the environment (prefix `PARTYLINE_`) or from the file named by `PARTYLINE_ENV_FILE`."""

import os
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AnyHttpUrl, Field, SecretStr, TypeAdapter, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.sources import DotEnvSettingsSource

DEFAULT_ELIGIBILITY_FILE = Path(__file__).with_name("eligibility.toml")
ROLES = ("gateway", "fanout", "sender", "janitor")
REFUSED_TYPES = (
    "application/x-msdownload", "application/x-msdos-program", "application/x-dosexec", "application/x-msi",
    "application/vnd.microsoft.portable-executable", "application/x-executable", "application/x-elf",
    "application/x-mach-binary", "application/x-sharedlib", "application/java-archive", "application/x-java-*",
    "application/vnd.android.package-archive", "application/x-sh", "application/x-shellscript", "application/x-bat",
    "application/hta", "text/html", "application/xhtml+xml", "image/svg+xml", "text/javascript",
    "application/javascript", "application/x-javascript", "application/ecmascript",
)  # fmt: skip
"""Programs, and what a browser would run."""
_URL: TypeAdapter[AnyHttpUrl] = TypeAdapter(AnyHttpUrl)
_DOMAIN = re.compile(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z0-9-]*[a-z][a-z0-9-]*")


class Settings(BaseSettings):
    """Every setting of the hub, with its default. The names are fixed by the API contract."""

    model_config = SettingsConfigDict(env_prefix="PARTYLINE_", extra="ignore", frozen=True)

    host: str = Field("127.0.0.1", description="address the HTTP server listens on")
    port: int = Field(8080, ge=0, le=65535, description="its port; 0 takes a free one")
    public_url: str = Field(
        "", description="how providers reach this hub, Twilio signs over exactly this; empty is http://HOST:PORT"
    )
    database_url: SecretStr | None = Field(
        None, description="PostgreSQL 15 or later; empty runs the embedded server under DATA_DIR"
    )
    data_dir: Path = Field(Path("data"), description="embedded database, generated keys, spool, uploaded files")
    admin_key: SecretStr | None = Field(None, description="operator's API key; generated under DATA_DIR when empty")
    secret_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="base64 AES-256 keys, comma-separated: the first encrypts, all decrypt; generated when empty",
    )
    roles: Annotated[tuple[str, ...], NoDecode] = Field(ROLES, description="what this process does")
    processes: int = Field(1, ge=1, le=32, description="processes that do it together, behind the one port")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severe line shown")
    log_format: Literal["json", "console"] = Field("json", description="one JSON object a line, or for people")
    open_metrics: bool = Field(False, description="serve /metrics without the operator's key")
    open_docs: bool = Field(False, description="serve /docs without a key")

    meta_app_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), description="secrets of the Meta app, comma-separated during rotation"
    )
    meta_verify_token: SecretStr | None = Field(None, description="the word Meta repeats in its handshake")
    meta_access_token: SecretStr | None = Field(None, description="permanent token of the system user")
    meta_app_id: str | None = Field(
        None, description="the Meta app's id: checks can tell then which webhook fields it is subscribed to, and where"
    )
    meta_api_url: str | None = Field(None, description="another Graph API (the simulator); empty is Meta's")
    twilio_account_sid: str | None = Field(None, description="account the numbers belong to")
    twilio_auth_token: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), description="auth tokens, comma-separated during rotation: the first sends, all verify"
    )
    twilio_shared_key: SecretStr | None = Field(
        None, description="key that Twilio signs webhooks with by HMAC-SHA256, where that is set up"
    )
    twilio_api_url: str | None = Field(None, description="another Twilio API (the simulator); empty is Twilio's")

    allow_private_endpoints: str = Field(
        "off",
        description="off, on, or networks (10.0.0.0/8,127.0.0.0/8) where subscribers may live, plain http there",
    )
    eligibility_file: Path = Field(
        DEFAULT_ELIGIBILITY_FILE, description="which services may share a number (rule A3); empty is the shipped file"
    )
    delivery_timeout: float = Field(15.0, gt=0, le=120, description="seconds a subscriber has to answer")
    delivery_concurrency: int = Field(32, ge=1, le=1000, description="deliveries in flight per subscription")
    send_concurrency: int = Field(20, ge=1, le=100, description="sends to providers in flight per process")
    send_timeout: float = Field(30.0, gt=0, le=120, description="seconds a provider has to take a message")
    media_max_bytes: int = Field(
        100 * 1024 * 1024, ge=1, description="bytes of a file, at most: of what services upload and customers send"
    )
    media_concurrency: int = Field(4, ge=1, le=64, description="files of customers fetched at once per process")
    media_refused_types: Annotated[tuple[str, ...], NoDecode] = Field(
        REFUSED_TYPES, description="types of customers' files that are not fetched, comma-separated, as application/x-*"
    )
    media_link_seconds: int = Field(86_400, ge=60, description="seconds the signed address of a file is good")
    media_retention_days: int = Field(0, ge=0, description="days files of customers are kept; 0 keeps them")
    media_upload_retention_days: int = Field(
        0, ge=0, description="days after its last use that a file of a service is kept; 0 keeps them"
    )
    media_store: str = Field(
        "", pattern=r"^(s3://[^/\s]+(/\S*)?)?$", description="s3://bucket/prefix for files; empty is DATA_DIR"
    )
    s3_endpoint: str = Field("", description="URL of what speaks S3; empty is Amazon's")
    s3_region: str = Field("", description="region of the bucket")
    s3_access_key: str = Field("", description="key id for the bucket; empty asks the machine's own configuration")
    s3_secret_key: SecretStr | None = Field(None, description="the secret that goes with it")
    whatsapp_rate: float = Field(80.0, gt=0, description="messages a second a WhatsApp sender may send (rule E9)")
    whatsapp_pair_rate: float = Field(
        10.0, gt=0, description="messages a minute a WhatsApp sender may send to one customer (rule E9)"
    )
    whatsapp_pair_burst: int = Field(
        45, ge=1, description="how many of these may go at once; they are made up for later"
    )
    sms_rate: float = Field(10.0, gt=0, description="messages a second an SMS sender may send (rule E9)")
    agent_per_minute: int = Field(30, ge=0, description="messages a minute of one agent; 0 is no limit (rule E3)")
    service_per_minute: int = Field(
        300, ge=0, description="messages a minute of all agents of one service; 0 is no limit (rule E3)"
    )
    new_conversations_per_hour: int = Field(
        20, ge=0, description="conversations an hour that a service other than the parent may begin; 0 is no limit"
    )
    requests_per_second: int = Field(
        50, ge=0, description="requests a second of each API key of a service, to each process; 0 is no limit (rule H4)"
    )
    ingest_queue: int = Field(10_000, ge=1, description="webhooks waiting for the database before Meta gets 503")
    secret_overlap: int = Field(86_400, ge=0, description="seconds an old signing secret stays live after rotation")
    inbound_key_days: int = Field(45, ge=30, description="days a provider item is known as seen (rule B4)")
    event_retention_days: int = Field(
        30, ge=1, description="days events are kept, and longer while a service that is delivered to needs them"
    )
    reconcile_interval: float = Field(
        300.0,
        ge=0,
        description="seconds between fetches of what webhooks left out, from providers' lists; 0: only when asked",
    )
    reconcile_lookback_days: int = Field(7, ge=1, le=30, description="days such a fetch goes back, at most")
    health_interval: float = Field(
        600.0, ge=0, description="seconds between checks of every sender with its provider; 0: none"
    )
    attempt_retention_days: int = Field(14, ge=1, description="days it is known what was attempted and delivered")

    link_base_url: str = Field(
        "", description="where tracked links are served, as https://go.shop.example; empty tracks no links"
    )
    collector_base_url: str = Field(
        "", description="where trackers report to, on the site's own domain; empty is LINK_BASE_URL"
    )
    site_domains: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="domains of the tracked sites, comma-separated; names under them count, too"
    )
    tracking_consent: Literal["required", "implied", "off"] = Field(
        "required", description="required: tracked who agreed; implied: who has not refused; off: nobody is asked"
    )
    site_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), description="what backends of the sites sign hub.identify with, comma-separated during rotation"
    )
    phone_region: str = Field(
        "", pattern="^([A-Z]{2})?$", description="country, as DE, of declared phone numbers without a country code"
    )
    auto_merge: bool = Field(False, description="merge candidates that were properly declared, without asking anybody")
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="networks of proxies whose X-Forwarded-For is believed, comma-separated"
    )
    click_retention_days: int = Field(180, ge=1, description="days single clicks are kept; their counts stay")
    address_retention_days: int = Field(30, ge=1, description="days the network of a click (/24 or /48) is kept")
    visit_retention_days: int = Field(400, ge=30, description="days visits of tracked sites are kept")

    @property
    def reached_at(self) -> str:
        """The URL that providers call this hub by."""
        return self.public_url or f"http://{self.host}:{self.port}"

    @property
    def reached_here(self) -> str:
        """The URL that this hub is reached by from its own machine."""
        any_address = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104  where it listens, seen from here
        host = any_address.get(self.host, f"[{self.host}]" if ":" in self.host else self.host)
        return f"http://{host}:{self.port}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment, then the file that `PARTYLINE_ENV_FILE` names."""
        path = os.environ.get("PARTYLINE_ENV_FILE")
        if not path:
            return init_settings, env_settings
        if not Path(path).is_file():
            raise ValueError(f"PARTYLINE_ENV_FILE names {path}, which is not a file")
        return init_settings, env_settings, DotEnvSettingsSource(settings_cls, env_file=path)

    @field_validator(
        "secret_keys", "roles", "meta_app_secrets", "twilio_auth_token", "site_domains", "site_secrets",
        "trusted_proxies", "media_refused_types", mode="before",
    )  # fmt: skip
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator(
        "admin_key", "database_url", "meta_verify_token", "meta_access_token", "s3_secret_key", "twilio_shared_key",
        mode="before",
    )  # fmt: skip
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("twilio_account_sid", "meta_app_id", "meta_api_url", "twilio_api_url", mode="before")
    @classmethod
    def _blank_is_none(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("eligibility_file", mode="before")
    @classmethod
    def _blank_is_shipped(cls, value: object) -> object:
        return DEFAULT_ELIGIBILITY_FILE if value == "" else value

    @field_validator("roles")
    @classmethod
    def _known_roles(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = set(value) - set(ROLES)
        if unknown or not value:
            raise ValueError(f"roles are {', '.join(ROLES)}; not {', '.join(sorted(unknown)) or 'none at all'}")
        return value

    @field_validator("site_domains")
    @classmethod
    def _domains(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        names = tuple(name.lower().strip(".") for name in value)
        if wrong := [name for name in names if not _DOMAIN.fullmatch(name)]:
            raise ValueError(f"domains are written as shop.example (IDNA for others); not {', '.join(wrong)}")
        return names

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ip_network(text)) for text in value)

    @field_validator(
        "public_url", "meta_api_url", "twilio_api_url", "link_base_url", "collector_base_url", "s3_endpoint"
    )
    @classmethod
    def _url_without_slash(cls, value: str | None) -> str | None:
        if not value:
            return value
        _URL.validate_python(value)
        return value.rstrip("/")
