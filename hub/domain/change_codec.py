"""Changes of identity as JSON, the way the ledger keeps them, each with what it wrote; and what they are about."""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from hashlib import sha256
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from hub.domain.addresses import Address
from hub.domain.bindings import Bind, Binding, Claim, End, Flag, Raise, Retract, Trust
from hub.domain.identity import Change, Confirm, Consent, Create, Fill, Remove, Suggest
from hub.domain.merging import Merge, Thing
from hub.domain.profiles import Slot, Standing

Wrote = Sequence[str | int]
"""The ids of rows that a change made or marked, so that exactly these are taken back."""


@dataclass(frozen=True, slots=True)
class Written:
    """A change and what it wrote."""

    change: Change | Merge
    wrote: Wrote = ()


_KINDS: Final[dict[str, Any]] = {
    kind.__name__: kind
    for kind in (Claim, Bind, End, Retract, Raise, Flag, Create, Fill, Confirm, Remove, Suggest, Consent, Merge)
}
_PARTS: Final = (Address, Slot, Binding)
_READ: Final[dict[type, Callable[[Any], Any]]] = {
    UUID: UUID,
    datetime: datetime.fromisoformat,
    Trust: Trust,
    Standing: Standing,
    str: str,
    bool: bool,
}


def encode(written: Collection[Written]) -> str:
    """Changes as JSON, in order: an object each, with its `type`, its fields and what it `wrote`."""
    return json.dumps([_show(one.change) | {"wrote": list(one.wrote)} for one in written], ensure_ascii=False)


def decode(text: str) -> list[Written]:
    """The same back."""
    return [Written(_read(_KINDS[one["type"]], one), tuple(one["wrote"])) for one in json.loads(text)]


def _show(value: Any) -> Any:
    match value:
        case None | bool() | int() | str():
            return value
        case UUID():
            return value.hex
        case datetime():
            return value.isoformat()
    shown = {field.name: _show(getattr(value, field.name)) for field in fields(value)}
    return shown if isinstance(value, _PARTS) else {"type": type(value).__name__} | shown


def _read(hint: Any, value: Any) -> Any:
    if value is None or get_origin(hint) is Literal:
        return value
    if get_origin(hint) in {Union, UnionType}:
        return _read(next(one for one in get_args(hint) if one is not type(None)), value)
    if read := _READ.get(hint):
        return read(value)
    return hint(**{name: _read(part, value[name]) for name, part in _hints(hint).items()})


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def thing_key(thing: Thing) -> str:
    """How the ledger finds what a change is about: addresses by their hash alone."""
    kind, of = thing
    match of:
        case UUID():
            return f"{kind}:{of.hex}"
        case (UUID() as contact, str() as slot):
            return f"{kind}:{contact.hex}:{slot}"
    return f"{kind}:{sha256(repr(of).encode()).hexdigest()[:32]}"
