"""What a handler says about itself, beside the handler: what it reads, what it answers, what it refuses.

`@operation(...)` puts an `Operation` on a handler; `auth.service` and `auth.operator` carry it on with who may call;
`hub.http.openapi` makes the document of it. Nothing here is looked at when a request is answered.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel

from hub.http.params import Parameter

JSON: Final = "application/json"
Who = Literal["service", "operator", "open"]
_ATTRIBUTE: Final = "operation"
H = TypeVar("H", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Body:
    """What a request brings. Without a `model` it is bytes of these media types."""

    model: Any = None
    is_optional: bool = False
    media_types: Sequence[str] = (JSON,)
    text: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is none of the plain ones: with headers, or of another media type; no `media_type`: no body."""

    model: Any = None
    text: str = ""
    media_type: str | None = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those it always has, and what each is for."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One handler, described. `scope` None: any valid key; `scopes` says it where it depends on what is asked."""

    name: str
    summary: str
    description: str
    parameters: Sequence[Parameter[Any]] = ()
    body: Body | None = None
    answers: Mapping[int, Answer] = field(default_factory=dict)
    codes: Sequence[str] = ()
    tag: str | None = None
    who: Who = "open"
    scope: str | None = None
    scopes: str = ""


def operation(
    *,
    path: Sequence[Parameter[Any]] = (),
    query: Sequence[Parameter[Any]] = (),
    headers: Sequence[Parameter[Any]] = (),
    body: type[BaseModel] | Body | None = None,
    answers: Mapping[int, Any],
    codes: Sequence[str] = (),
    scopes: str = "",
    tag: str | None = None,
    summary: str | None = None,
) -> Callable[[H], H]:
    """Describe a handler. Its docstring is the text; of `answers` a model (any type pydantic knows) is JSON, None no
    body, an `Answer` anything else. `codes` are those of its own: what who may call, parameters and bodies bring with
    them (`unauthorized`, `missing_scope`, `invalid_request`, `unavailable` ...) is added by `hub.http.openapi`.
    """

    def describe(handler: H) -> H:
        first, _, rest = " ".join((handler.__doc__ or "").split()).partition(". ")
        described = Operation(
            name=handler.__name__,
            summary=summary or first.rstrip("."),
            description=rest,
            parameters=(*path, *query, *headers),
            body=Body(body) if isinstance(body, type) else body,
            answers={status: _answer(said) for status, said in answers.items()},
            codes=codes,
            scopes=scopes,
            tag=tag,
        )
        setattr(handler, _ATTRIBUTE, described)
        return handler

    return describe


def _answer(said: Any) -> Answer:
    if isinstance(said, Answer):
        return said
    return Answer(media_type=None) if said is None else Answer(said)


def carry(handler: Callable[..., Any], guarded: H, who: Who, scope: str | None = None) -> H:
    """The guard of a handler says what the handler says, and who may call."""
    described = operation_of(handler)
    if described is not None:
        setattr(guarded, _ATTRIBUTE, replace(described, who=who, scope=scope))
    return guarded


def operation_of(handler: Callable[..., Any]) -> Operation | None:
    """What a handler says about itself; None: nothing."""
    found = getattr(handler, _ATTRIBUTE, None)
    return found if isinstance(found, Operation) else None
