"""The reference at `/docs`: the OpenAPI document, told to people. What the page shows is put together here, the HTML
is the template's.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup, escape

from hub.http.docs_text import inline
from hub.http.openapi import PROBLEM

Schema = Mapping[str, Any]
_METHODS: Final = ("get", "post", "put", "patch", "delete", "options")
_SAMPLES: Final[Mapping[str, str]] = {"e164": "+4930123456", "name": "spring", "medium": "whatsapp"}


@dataclass(frozen=True, slots=True)
class Field:
    """A parameter, or a field of a schema: `kind` is its type, linked to the schemas it names."""

    name: str
    kind: Markup
    is_required: bool
    text: Markup
    place: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """A body or an answer: its media types and its schema, with an example where there is one."""

    title: str
    text: Markup
    media_types: str
    kind: Markup
    example: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The codes of one status."""

    status: str
    codes: list[str]


@dataclass(frozen=True, slots=True)
class Entry:
    """One operation."""

    id: str
    method: str
    path: str
    summary: Markup
    description: Markup
    parameters: list[Field]
    body: Said | None
    answers: list[Said]
    refusals: list[Refused]
    curl: str


@dataclass(frozen=True, slots=True)
class Shape:
    """One schema: its fields, or what else it is."""

    name: str
    text: Markup
    kind: Markup
    fields: list[Field]


@dataclass(frozen=True, slots=True)
class Reference:
    """Everything the page shows."""

    tags: dict[str, list[Entry]]
    events: list[Said]
    shapes: list[Shape]


def reference_of(document: Schema, base_url: str) -> Reference:
    """The reference of a document; `base_url` is where the hub is reached, for the examples."""
    tags: dict[str, list[Entry]] = {tag["name"]: [] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method in _METHODS:
            if method in methods:
                tags[methods[method]["tags"][0]].append(_entry(document, base_url, path, method, methods[method]))
    events = [_event(kind, hook["post"]) for kind, hook in document["webhooks"].items()]
    shapes = [_shape(name, schema) for name, schema in sorted(document["components"]["schemas"].items())]
    return Reference(tags, events, shapes)


def _entry(document: Schema, base_url: str, path: str, method: str, told: Schema) -> Entry:
    answers = {status: _resolved(document, answer) for status, answer in told["responses"].items()}
    problems = {status: answer for status, answer in answers.items() if PROBLEM in answer.get("content", {})}
    plain = [_said(status, answer) for status, answer in answers.items() if status not in problems]
    return Entry(
        id=told["operationId"],
        method=method.upper(),
        path=path,
        summary=_text(told["summary"]),
        description=_text(told["description"]),
        parameters=[_parameter(one) for one in told.get("parameters", ())],
        body=_said("Body", told["requestBody"]) if "requestBody" in told else None,
        answers=plain,
        refusals=[Refused(status, _codes(answer)) for status, answer in problems.items()],
        curl=_curl(base_url, path, method, told),
    )


def _resolved(document: Schema, answer: Schema) -> Schema:
    if "$ref" not in answer:
        return answer
    found: Schema = document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    return found


def _codes(answer: Schema) -> list[str]:
    codes: list[str] = answer["content"][PROBLEM]["schema"]["properties"]["code"]["enum"]
    return codes


def _parameter(told: Schema) -> Field:
    return Field(
        told["name"], kind_of(told["schema"]), told.get("required", False), _text(told["description"]), told["in"]
    )


def _said(title: str, told: Schema) -> Said:
    content: Schema = told.get("content", {})
    first: Schema = next(iter(content.values()), {})
    example = json.dumps(first["example"], indent=2, ensure_ascii=False) if "example" in first else ""
    is_optional = "required" in told and not told["required"]
    text = told.get("description", "") + (" (may be left out)" if is_optional else "")
    return Said(title, _text(text), ", ".join(content), kind_of(first.get("schema", {})), example)


def _event(kind: str, told: Schema) -> Said:
    said = _said(kind, told["requestBody"])
    return Said(kind, _text(told["description"]), "", said.kind, said.example)


def _shape(name: str, schema: Schema) -> Shape:
    required = schema.get("required", ())
    fields = [
        Field(field, kind_of(inner), field in required, _text(inner.get("description", "")))
        for field, inner in schema.get("properties", {}).items()
    ]
    return Shape(name, _text(schema.get("description", "")), Markup() if fields else kind_of(schema), fields)


def _text(text: str) -> Markup:
    return Markup(inline(text))  # noqa: S704  Markdown of ours, in which HTML means nothing


# Types in words -----------------------------------------------------------------------------------------------------


def kind_of(schema: Schema) -> Markup:
    """The type of a schema in words, with links to the schemas it names."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return Markup('<a href="#schema-{0}">{0}</a>').format(name)
    for joined in ("anyOf", "oneOf"):
        if joined in schema:
            return Markup(" or ").join(kind_of(one) for one in schema[joined])
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return Markup(" or ").join(Markup("<code>{}</code>").format(json.dumps(value)) for value in values)
    return _simple(schema)


def _simple(schema: Schema) -> Markup:
    kind = schema.get("type")
    if kind == "array":
        return Markup("list of {}").format(kind_of(schema.get("items", {})))
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return Markup("object of {}").format(kind_of(schema["additionalProperties"]))
    words = [str(kind or "anything"), *_bounds(schema)]
    return escape(", ".join(words))


def _bounds(schema: Schema) -> Iterator[str]:
    if "format" in schema:
        yield str(schema["format"])
    if "pattern" in schema:
        yield f"like {schema['pattern']}"
    for least, most, unit in (("minimum", "maximum", ""), ("minLength", "maxLength", " characters")):
        if least in schema or most in schema:
            yield f"{schema.get(least, '')} to {schema.get(most, '')}{unit}".strip()
    if "default" in schema:
        yield f"default {json.dumps(schema['default'])}"


# Examples -----------------------------------------------------------------------------------------------------------


def _curl(base_url: str, path: str, method: str, told: Schema) -> str:
    """The operation as a command line."""
    lines = ["curl" + ("" if method == "get" else f" -X {method.upper()}") + f" '{base_url}{_filled(path, told)}'"]
    keys = {"service": "PARTYLINE_KEY", "operator": "PARTYLINE_ADMIN_KEY"}
    lines += [f'-H "Authorization: Bearer ${keys[who]}"' for needed in told["security"] for who in needed]
    content: Schema = told.get("requestBody", {}).get("content", {})
    kind = next(iter(content), "")
    if "example" in content.get(kind, {}):
        text = json.dumps(content[kind]["example"], ensure_ascii=False).replace("'", "'\\''")
        lines += [f"-H 'Content-Type: {kind}'", f"-d '{text}'"]
    elif kind == "multipart/form-data":
        lines.append("-F 'file=@photo.jpg;type=image/jpeg'")
    return " \\\n  ".join(lines)


def _filled(path: str, told: Schema) -> str:
    for parameter in told.get("parameters", ()):
        if parameter["in"] == "path":
            name = parameter["name"]
            path = path.replace(f"{{{name}}}", str(parameter.get("example") or _SAMPLES.get(name, name)))
    return path
