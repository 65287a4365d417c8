"""The API's own description, OpenAPI 3.1: made of what handlers say of themselves and of the models that validate."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web
from pydantic import TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from hub.http.operations import JSON, Answer, Operation, operation_of
from hub.http.params import Parameter
from hub.http.problem_codes import STATUSES

PROBLEM: Final = "application/problem+json"
_REF: Final = "#/components/schemas/{model}"
_ADMIN: Final = "/v1/admin/"
_TAGS: Final[Mapping[str, str]] = {
    "numbers": "Numbers",
    "conversations": "Conversations",
    "messages": "Messages",
    "events": "Events",
    "deliveries": "Deliveries",
    "replays": "Deliveries",
    "media": "Files",
    "links": "Links",
    "campaigns": "Links",
    "contacts": "Contacts",
    "visitors": "Contacts",
    "identify": "Contacts",
    "merge-candidates": "Merging",
    "identity-operations": "Merging",
    "consents": "Consents",
    "trace": "Trace",
}
"""What operations are about, by the first part of their path."""
_INFO: Final = """\
Customers write to a number of the organisation; every service connected to it hears them, and any of them may answer.

- A service's key and the operator's are sent as `Authorization: Bearer <key>`. Paths under `/v1/admin/` take the \
operator's, all others of `/v1` a service's.
- Lists are paged by cursor: `next` of one page is the `after` (or `before`) of the next, and null at the end.
- Unknown query parameters are ignored, unknown fields of bodies refused.
- Every refusal is a problem document (RFC 9457); programs look at `status` and `code`.
- `HEAD` is answered wherever `GET` is, but for the live stream.
"""


@dataclass(frozen=True, slots=True)
class Route:
    """A described operation, and where it is."""

    path: str
    method: str
    operation: Operation


def routes_of(app: web.Application) -> list[Route]:
    """Everything that describes itself, in the order of registration."""
    found = []
    for route in app.router.routes():
        described = operation_of(route.handler)
        if described and route.resource and route.method != "HEAD":
            found.append(Route(route.resource.canonical, route.method.lower(), described))
    return found


Examples = Mapping[tuple[str, str], Sequence[Any]]
"""JSON that was shown somewhere, by method and path: bodies and answers as they come."""


def describe(
    app: web.Application, version: str, webhooks: Mapping[str, Any] | None = None, examples: Examples | None = None
) -> dict[str, Any]:
    """The document of an application; `webhooks` are the models of events by type. Of the `examples` those are in it
    that are valid by the model they are an example of.
    """
    routes = routes_of(app)
    models = _Models([*_models_of(routes), *(webhooks or {}).values()])
    paths: dict[str, Any] = {}
    for route in routes:
        shown = (examples or {}).get((route.method.upper(), route.path), ())
        paths.setdefault(route.path, {})[route.method] = _operation(route, models, shown)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Partyline", "version": version, "description": _INFO},
        "tags": [{"name": tag} for tag in _tags(routes)],
        "paths": paths,
        "webhooks": {kind: _webhook(kind, models.schema_of(model)) for kind, model in (webhooks or {}).items()},
        "components": {
            "schemas": {**models.definitions, "Problem": _PROBLEM},
            "responses": _shared_refusals(routes),
            "securitySchemes": {
                "service": {"type": "http", "scheme": "bearer", "description": "the API key of a service"},
                "operator": {"type": "http", "scheme": "bearer", "description": "the operator's key"},
            },
        },
    }


# Models -------------------------------------------------------------------------------------------------------------


def _models_of(routes: Iterable[Route]) -> Iterator[Any]:
    for route in routes:
        if route.operation.body and route.operation.body.model is not None:
            yield route.operation.body.model
        yield from (answer.model for answer in route.operation.answers.values() if answer.model is not None)


class _Plain(GenerateJsonSchema):
    """Without titles that only say the field's name again."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never."""
        return False


class _Models:
    """The JSON schemas of models, made together, so that what they share is written once."""

    def __init__(self, models: Iterable[Any]) -> None:
        wanted = {repr(model): model for model in models}
        made, self.definitions = _Plain(ref_template=_REF).generate_definitions(
            [(key, "validation", TypeAdapter(model).core_schema) for key, model in wanted.items()]
        )
        self._schemas = {key: schema for (key, _), schema in made.items()}

    def schema_of(self, model: Any) -> dict[str, Any]:
        """Where the schema is, or the schema."""
        return self._schemas[repr(model)]


# Operations ---------------------------------------------------------------------------------------------------------


def tag_of(route: Route) -> str:
    """What an operation is about."""
    if route.operation.tag:
        return route.operation.tag
    first = route.path.removeprefix(_ADMIN).removeprefix("/v1/").lstrip("/").partition("/")[0]
    name = _TAGS.get(first) or first.replace("-", " ").capitalize()
    return f"Operator: {name.lower()}" if route.path.startswith(_ADMIN) else name


def _tags(routes: Iterable[Route]) -> list[str]:
    """All tags: first what services ask for, then what operators do, then the rest."""
    order = [*dict.fromkeys(_TAGS.values())]

    def place(tag: str) -> tuple[int, int]:
        kind, _, name = tag.rpartition(": ")
        known = order.index(name.capitalize()) if name.capitalize() in order else len(order)
        return (1 if kind else 2 if known == len(order) else 0), known

    return sorted(dict.fromkeys(tag_of(route) for route in routes), key=place)


def _operation(route: Route, models: _Models, shown: Sequence[Any]) -> dict[str, Any]:
    told = route.operation
    view: dict[str, Any] = {
        "operationId": told.name,
        "tags": [tag_of(route)],
        "summary": told.summary,
        "description": "\n\n".join(part for part in (told.description, who_may(told)) if part),
        "security": [] if told.who == "open" else [{told.who: []}],
    }
    if told.parameters:
        view["parameters"] = [_parameter(parameter) for parameter in told.parameters]
    if told.body:
        content = _content(told.body.model, models, shown)
        view["requestBody"] = {
            "required": not told.body.is_optional,
            "content": dict.fromkeys(told.body.media_types, content),
        }
        if told.body.text:
            view["requestBody"]["description"] = told.body.text
    view["responses"] = {
        **{str(status): _answer(status, said, models, shown) for status, said in told.answers.items()},
        **{str(status): _refusal(codes) for status, codes in problems_of(told).items()},
    }
    if told.scope:
        view["x-scope"] = told.scope
    return view


def who_may(told: Operation) -> str:
    """Who may call, in words."""
    if told.who == "open":
        return "Needs no key." if not told.scopes else told.scopes
    if told.who == "operator":
        return "Needs the operator's key."
    if told.scope:
        return f"Needs a service's key with the scope `{told.scope}`."
    return f"Needs a service's key{': ' + told.scopes if told.scopes else ', whatever its scopes'}."


def _parameter(told: Parameter[Any]) -> dict[str, Any]:
    schema = dict(told.schema)
    if isinstance(told.default, bool | int | str):
        schema["default"] = told.default
    view: dict[str, Any] = {"name": told.name, "in": told.place, "description": told.text, "schema": schema}
    if told.is_required:
        view["required"] = True
    if told.example is not None:
        view["example"] = told.example
    return view


_WORDS: Final = {200: "Done", 201: "Made", 202: "Accepted", 204: "Done; there is nothing more to say"}


def _answer(status: int, said: Answer, models: _Models, shown: Sequence[Any]) -> dict[str, Any]:
    view: dict[str, Any] = {"description": said.text or _WORDS.get(status, "Answered")}
    if said.headers:
        view["headers"] = {
            name: {"description": text, "required": True, "schema": {"type": "string"}}
            for name, text in said.headers.items()
        }
    if said.media_type:
        view["content"] = {said.media_type: _content(said.model, models, shown)}
    return view


def _content(model: Any, models: _Models, shown: Sequence[Any]) -> dict[str, Any]:
    """A schema, with the first of the examples that is valid by it."""
    if model is None:
        return {}
    example = next((value for value in shown if _is_valid(model, value)), None)
    return {"schema": models.schema_of(model)} | ({"example": example} if example is not None else {})


def _is_valid(model: Any, value: Any) -> bool:
    """A model that asks for a context can tell nothing without it."""
    try:
        TypeAdapter(model).validate_python(value)
    except (ValidationError, AssertionError):
        return False
    return True


# Problems -----------------------------------------------------------------------------------------------------------

_PROBLEM: Final = {
    "title": "Problem",
    "description": "A refusal (RFC 9457). Some codes add fields of their own.",
    "type": "object",
    "required": ["type", "title", "status", "code", "detail", "errors"],
    "properties": {
        "type": {"type": "string", "description": "where the code is explained"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "stable: what programs look at"},
        "detail": {"type": "string", "description": "for people; may change"},
        "errors": {
            "description": "every fault of a body at once",
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "code", "detail"],
                "properties": {
                    "pointer": {"type": "string", "description": "JSON pointer into the body"},
                    "code": {"type": "string"},
                    "detail": {"type": "string"},
                },
                "additionalProperties": False,
            },
        },
        "retry_after": {"type": "integer", "description": "seconds to wait, also as the header Retry-After"},
    },
}


def problems_of(told: Operation) -> dict[int, list[str]]:
    """The codes an operation may be refused with, by status."""
    found: dict[int, list[str]] = {}
    for code in sorted({*told.codes, *_implied(told)}):
        found.setdefault(STATUSES[code], []).append(code)
    return dict(sorted(found.items()))


def _implied(told: Operation) -> Iterator[str]:
    """What comes with who may call, with parameters and with a body."""
    if told.who == "service":
        yield from ("unauthorized", "too_many_requests", "unavailable")
        if told.scope or told.scopes:
            yield "missing_scope"
    if told.who == "operator":
        yield from ("unauthorized", "operator_only", "unavailable")
    for parameter in told.parameters:
        yield from parameter.codes or ("invalid_request",)
        if parameter.place == "path":
            yield from ("not_found", "invalid_request")
    if told.body:
        yield from ("invalid_request", "too_large")
        if told.body.model is not None and JSON in told.body.media_types:
            yield "invalid_json"


def _refusal(codes: Sequence[str]) -> dict[str, Any]:
    """With one code it is the same wherever it occurs, and written once."""
    return {"$ref": f"#/components/responses/{codes[0]}"} if len(codes) == 1 else _problems(codes)


def _shared_refusals(routes: Iterable[Route]) -> dict[str, Any]:
    told = [codes for route in routes for codes in problems_of(route.operation).values()]
    return {code: _problems([code]) for code in sorted({codes[0] for codes in told if len(codes) == 1})}


def _problems(codes: Sequence[str]) -> dict[str, Any]:
    schema = {"$ref": _REF.format(model="Problem"), "properties": {"code": {"enum": list(codes)}}}
    links = ", ".join(f"[`{code}`](/docs/errors#{code})" for code in codes)
    return {"description": links, "content": {PROBLEM: {"schema": schema}}}


# Events -------------------------------------------------------------------------------------------------------------


def _webhook(kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    name = "".join(part.capitalize() for part in kind.replace(".", "_").split("_"))
    anchor = kind.replace(".", "")
    return {
        "post": {
            "operationId": f"on{name}",
            "tags": ["Events"],
            "summary": kind,
            "description": f"Posted to endpoints, signed (Standard Webhooks): see [events](/docs/events#{anchor}).",
            "requestBody": {"required": True, "content": {JSON: {"schema": schema}}},
            "responses": {"2XX": {"description": "Taken. Anything else, and it comes again (rule G3)"}},
        }
    }
