"""What people fill in: filters in the address, forms read by the models of the API, and forms that count once."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from hub.domain.errors import Invalid
from hub.domain.ids import new_hex
from hub.http.console.session import Viewer
from hub.http.problems import invalid
from hub.http.schemas import number_of, read_time
from hub.store import used_tokens
from hub.store.pool import Connection

PAGE: Final = 50
"""Rows of a list."""
_KEPT: Final = timedelta(days=1)
"""How long a form that was sent is remembered."""
_MAX_FILTER: Final = 200
_M = TypeVar("_M", bound=BaseModel)

Fields = Mapping[str, str]


def asked(request: web.Request, name: str) -> str | None:
    """A filter of the address; None where it is left blank. Raises `Invalid`."""
    text = request.query.get(name, "").strip()
    if len(text) > _MAX_FILTER or "\x00" in text:
        raise Invalid(f"{name} is no filter: clear it and look again")
    return text or None


def before_of(request: web.Request) -> int:
    """Below which number a list goes on. Raises `Invalid`."""
    return number_of(request, "before", default=2**62)


def next_url(request: web.Request, **place: object) -> str:
    """The address of the same list from another place on."""
    return str(request.rel_url.update_query({name: str(value) for name, value in place.items()}))


def given(fields: Fields, name: str) -> str | None:
    """A field of a form; None where it is left blank."""
    return fields.get(name, "").strip() or None


def decimal_in(fields: Fields, name: str) -> float | str | None:
    """A number with a point or a comma; what is none stays text, for the model of the API to refuse."""
    text = given(fields, name)
    try:
        return float(text.replace(",", ".")) if text else None
    except ValueError:
        return text


def ticked(fields: Fields, prefix: str) -> list[str]:
    """What was ticked, of boxes whose names begin so."""
    return [name.removeprefix(prefix) for name in fields if name.startswith(prefix)]


def time_in(fields: Fields, name: str) -> datetime | None:
    """A time, in UTC where it does not say otherwise. Raises `Invalid`."""
    text = given(fields, name)
    return read_time(name, text) if text else None


def read_as(model: type[_M], values: Mapping[str, Any]) -> _M:
    """Values of a form, judged by the model of the API. Raises `Invalid`, all faults in one sentence each."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        refusal = invalid(error)
        faults = [f"{_label(fault.pointer)}{_sentence(fault.detail)}" for fault in refusal.errors]
        raise Invalid(" ".join(faults)) from None


def _label(pointer: str) -> str:
    names = [part.replace("_", " ") for part in pointer.split("/") if part and not part.isdigit()]
    return f"{names[-1].capitalize()}: " if names else ""


def _sentence(text: str) -> str:
    text = text.removeprefix("Value error, ").rstrip(".")
    return f"{text[:1].lower()}{text[1:]}."


def new_once() -> str:
    """Goes into a form that must count once, however often its button is pressed."""
    return new_hex()


async def is_first(conn: Connection, viewer: Viewer, fields: Fields) -> bool:
    """Whether this form has not been sent yet; of two at once, one waits here for the other's transaction. Call it
    first. Raises `Invalid`.
    """
    once = fields.get("once", "")
    if not once:
        raise Invalid("the form is not complete: load the page again, and send it from there")
    name = hashlib.sha256(f"console:{viewer.csrf}:{once}".encode("utf-8", "replace")).digest()
    return await used_tokens.use(conn, name, datetime.now(UTC) + _KEPT)
