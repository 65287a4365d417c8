"""What trackers may report, validated: every fault of a batch is told at once (rule H1)."""

import re
from datetime import timedelta
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from hub.actions.visit import Seen
from hub.domain.link_tokens import digest
from hub.domain.pages import page_title, page_url, referrer_url
from hub.domain.site_signature import SignedIdentify
from hub.domain.tracking import Tracking
from hub.http.schemas import Model

MOST_EVENTS: Final = 50
OLDEST: Final = timedelta(hours=24)
"""How long ago an event can have happened: a tracker that says longer has slept, or is wrong."""
_KEY: Final = re.compile(r"[A-Za-z0-9_-]{22}")
_SIGNING: Final = ("handle", "time", "nonce", "signature")


def _bounded(value: Any) -> Any:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return min(value, OLDEST // timedelta(milliseconds=1)) if is_number else value


Secret = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{22}$")]
Age = Annotated[int, Field(ge=0, strict=True), BeforeValidator(_bounded)]
Text = Annotated[str, StringConstraints(max_length=320)]


class _EventIn(Model):
    """`age`: whole milliseconds since it happened; of a page that was loaded, since the tracker started."""

    age: Age

    @property
    def since(self) -> timedelta:
        return timedelta(milliseconds=self.age)


class SitePageIn(_EventIn):
    """A page that was come to: loaded, by a change of route in it, or back out of the browser's memory."""

    type: Literal["page"]
    kind: Literal["load", "route", "restore"]
    url: str
    title: str | None = None
    referrer: str | None = None

    def seen(self, site: str, tracking: Tracking) -> Seen | None:
        """Fit to be kept; None where it is on another site."""
        url = page_url(self.url, site, tracking)
        if url is None:
            return None
        return Seen(url, self.since, self.kind, page_title(self.title), referrer_url(self.referrer))


class EngagedIn(_EventIn):
    """Somebody used the page."""

    type: Literal["engaged"]
    url: str

    def seen(self, site: str, tracking: Tracking) -> Seen | None:
        """Fit to be kept; None where it is on another site."""
        url = page_url(self.url, site, tracking)
        return Seen(url, self.since, None) if url else None


class SiteIdentifyIn(_EventIn):
    """Who the visitor says to be; with all of `handle`, `time`, `nonce` and `signature`, the site's backend says so."""

    type: Literal["identify"]
    email: Text | None = None
    phone: Text | None = None
    consents: list[Annotated[str, StringConstraints(max_length=20)]] = Field(default=[], max_length=10)
    handle: Text | None = None
    time: Annotated[int, Field(ge=0, lt=2**40)] | None = None
    nonce: Annotated[str, StringConstraints(min_length=8, max_length=128)] | None = None
    signature: Text | None = None

    @model_validator(mode="after")
    def _is_all_signed(self) -> Self:
        given = [name for name in _SIGNING if getattr(self, name) is not None]
        if given and len(given) < len(_SIGNING):
            raise ValueError("a signed declaration has handle, time, nonce and signature")
        return self

    @property
    def signed(self) -> SignedIdentify | None:
        """What the backend signed."""
        if self.handle is None or self.time is None or self.nonce is None or self.signature is None:
            return None
        return SignedIdentify(
            self.handle, self.time, self.nonce, self.signature, self.email or "", self.phone or "", self.consents
        )


class ResetIn(_EventIn):
    """Somebody else will use the browser."""

    type: Literal["reset"]


class HandleIn(_EventIn):
    """The page asks for a handle of its visitor."""

    type: Literal["handle"]


EventIn = Annotated[SitePageIn | EngagedIn | SiteIdentifyIn | ResetIn | HandleIn, Field(discriminator="type")]


class BatchIn(Model):
    """What a tracker reports at once. `key`: of the fragment of the page, with its first report; anybody can put
    anything there, so what is no key is left out.
    """

    session: Secret
    consent: Literal["granted", "denied", "unset"]
    key: str | None = None
    events: list[EventIn] = Field(min_length=1, max_length=MOST_EVENTS)

    @model_validator(mode="after")
    def _ends_with_the_handle(self) -> Self:
        if any(isinstance(event, HandleIn) for event in self.events[:-1]):
            raise ValueError("handle is the last event, where there is one")
        return self

    @property
    def key_hash(self) -> bytes | None:
        """What a click is found by, of a key."""
        return digest(self.key) if self.key and _KEY.fullmatch(self.key) else None
