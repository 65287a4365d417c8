"""What Meta finds wrong with a message, and which text it shows.

https://developers.facebook.com/docs/whatsapp/cloud-api/reference/messages and its guides for each type.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

Fields = Mapping[str, Any]

_PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_CAPTIONED = ("image", "video", "document")
_INTERACTIVE_BODY = {"button": 1024, "list": 4096, "cta_url": 1024}


class Problem(Exception):
    """A reason to refuse a message: Meta's error code, and what is wrong."""

    def __init__(self, code: int, details: str) -> None:
        super().__init__(code, details)
        self.code = code
        self.details = details


def check(body: Fields, media_ids: Collection[str], templates: Sequence[Fields]) -> None:
    """Raise `Problem` for a message that Meta would not take. Without `templates` any template will do."""
    kind = body.get("type", "text")
    if body.get("messaging_product") != "whatsapp":
        raise Problem(100, "The parameter messaging_product is required.")
    if not isinstance(kind, str) or kind not in body or kind not in _CHECKS:
        raise Problem(131009, f"Unexpected key or type {kind!r}")
    _CHECKS[kind](body[kind], kind)
    context = body.get("context")
    if context is not None:
        _text(_object(context, "context"), "message_id", "context")
        if kind == "reaction":
            raise Problem(131009, "A reaction cannot be a reply")
    if kind == "template" and templates:
        _check_template(body["template"], templates)
    if "id" in _as_object(body[kind]) and body[kind]["id"] not in media_ids:
        details = f"Param {kind}['id'] is not a valid whatsapp business account media attachment ID"
        raise Problem(100, details)


def shown_text(body: Fields, kind: str, templates: Sequence[Fields]) -> str | None:
    """What a customer reads: the text, the caption, the emoji, or a template filled in."""
    part = _as_object(body.get(kind))
    if kind == "interactive":
        text = _as_object(part.get("body")).get("text")
    elif kind == "template":
        template = find_template(part, templates)
        text = _filled(part, template) if template else None
    else:
        text = part.get({"text": "body", "reaction": "emoji"}.get(kind, "caption"))
    return text if isinstance(text, str) else None


def find_template(part: Any, templates: Sequence[Fields]) -> Fields | None:
    """The template that a message names, in its language."""
    fields = _as_object(part)
    wanted = (fields.get("name"), _as_object(fields.get("language")).get("code"))
    return next((known for known in templates if (known["name"], known["language"]) == wanted), None)


def _check_text(part: Any, kind: str) -> None:
    _text(_object(part, kind), "body", kind, 4096)


def _check_media(part: Any, kind: str) -> None:
    fields = _object(part, kind)
    if ("id" in fields) == ("link" in fields):
        raise Problem(131008, f"{kind} needs either id or link")
    if "id" in fields:
        _text(fields, "id", kind)
    elif not _text(fields, "link", kind, 2048).startswith(("http://", "https://")):
        raise Problem(131009, f"{kind}.link must be a URL")
    if "caption" in fields:
        if kind not in _CAPTIONED:
            raise Problem(100, f'Unexpected key "caption" on param "{kind}"')
        _text(fields, "caption", kind, 1024)
    if "filename" in fields and kind != "document":
        raise Problem(100, f'Unexpected key "filename" on param "{kind}"')


def _check_template_shape(part: Any, kind: str) -> None:
    fields = _object(part, kind)
    _text(fields, "name", kind, 512)
    _text(_object(fields.get("language"), "template.language"), "code", "template.language")
    for component in fields.get("components") or []:
        _text(_object(component, "component"), "type", "component")


def _check_template(part: Fields, templates: Sequence[Fields]) -> None:
    template = find_template(part, templates)
    if template is None or template["status"] not in ("APPROVED", "PAUSED", "DISABLED"):
        name = f"template name ({part['name']}) does not exist in {part['language']['code']}"
        raise Problem(132001, name)
    if template["status"] != "APPROVED":
        raise Problem(132015 if template["status"] == "PAUSED" else 132016, "Template is not active")
    expected, given = len(set(_PLACEHOLDER.findall(_template_body(template)))), len(_body_parameters(part))
    if expected != given:
        details = f"body: number of localizable_params ({given}) does not match the expected number of params"
        raise Problem(132000, f"{details} ({expected})")


def _check_interactive(part: Any, kind: str) -> None:
    fields = _object(part, kind)
    limit = _INTERACTIVE_BODY.get(str(fields.get("type")))
    if limit is None:
        raise Problem(131009, "interactive.type is not valid")
    _text(_object(fields.get("body"), "interactive.body"), "text", "interactive.body", limit)
    if "header" in fields:
        header = _object(fields["header"], "interactive.header")
        _text(header, "text" if header.get("type") == "text" else "type", "interactive.header", 60)
    if "footer" in fields:
        _text(_object(fields["footer"], "interactive.footer"), "text", "interactive.footer", 60)
    action = _object(fields.get("action"), "interactive.action")
    {"button": _check_buttons, "list": _check_list, "cta_url": _check_cta}[fields["type"]](action)


def _check_buttons(action: Fields) -> None:
    buttons = _objects(action.get("buttons"), "buttons", 3)
    if any(button.get("type") != "reply" for button in buttons):
        raise Problem(131009, "buttons.type must be reply")
    _check_choices([_object(button.get("reply"), "buttons.reply") for button in buttons], 256, 20)


def _check_list(action: Fields) -> None:
    _text(action, "button", "action", 20)
    sections = _objects(action.get("sections"), "sections", 10)
    if len(sections) > 1:
        for section in sections:
            _text(section, "title", "section", 24)
    rows = [row for section in sections for row in _objects(section.get("rows"), "rows", 10)]
    if len(rows) > 10:
        raise Problem(131009, "Total row count exceed max allowed count: 10")
    _check_choices(rows, 200, 24)
    for row in rows:
        if "description" in row:
            _text(row, "description", "row", 72)


def _check_choices(choices: Iterable[Fields], id_limit: int, title_limit: int) -> None:
    ids = []
    for choice in choices:
        ids.append(_text(choice, "id", "reply", id_limit))
        _text(choice, "title", "reply", title_limit)
    if len(ids) != len(set(ids)):
        raise Problem(131009, "Duplicated reply ids")


def _check_cta(action: Fields) -> None:
    parameters = _object(action.get("parameters"), "action.parameters")
    _text(parameters, "display_text", "action.parameters", 20)
    if action.get("name") != "cta_url" or not _text(parameters, "url", "action.parameters").startswith("http"):
        raise Problem(131009, "action is not valid")


def _check_location(part: Any, kind: str) -> None:
    fields = _object(part, kind)
    for name, limit in (("latitude", 90), ("longitude", 180)):
        value = fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > limit:
            raise Problem(131008 if value is None else 131009, f"location.{name} is missing or not valid")


def _check_contacts(part: Any, kind: str) -> None:
    for contact in _objects(part, kind, 257):
        _text(_object(contact.get("name"), "contacts.name"), "formatted_name", "contacts.name")


def _check_reaction(part: Any, kind: str) -> None:
    fields = _object(part, kind)
    _text(fields, "message_id", kind)
    if not isinstance(fields.get("emoji"), str):
        raise Problem(131008, "reaction.emoji is missing")


def _filled(part: Fields, template: Fields) -> str:
    parameters = _body_parameters(part)
    values = {str(place): str(value.get("text")) for place, value in enumerate(parameters, start=1)}
    values |= {
        str(value["parameter_name"]): str(value.get("text")) for value in parameters if "parameter_name" in value
    }
    return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), _template_body(template))


def _template_body(template: Fields) -> str:
    texts = [str(part.get("text", "")) for part in template.get("components", []) if part.get("type") == "BODY"]
    return "".join(texts)


def _body_parameters(part: Fields) -> list[Fields]:
    components = part.get("components") or []
    bodies = [component for component in components if str(component.get("type")).lower() == "body"]
    return [parameter for body in bodies for parameter in body.get("parameters") or []]


def _text(fields: Fields, name: str, where: str, limit: int | None = None) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise Problem(131008, f"{where}.{name} is missing")
    if not value or (limit is not None and len(value) > limit):
        raise Problem(131009, f"{where}.{name} must have 1 to {limit or 'some'} characters")
    return value


def _object(value: Any, where: str) -> Fields:
    if not isinstance(value, Mapping):
        raise Problem(131008, f"{where} is missing")
    return value


def _objects(value: Any, where: str, most: int) -> list[Fields]:
    if not isinstance(value, list) or not value:
        raise Problem(131008, f"{where} is missing")
    if len(value) > most:
        raise Problem(131009, f"{where} must have at most {most} elements")
    return [_object(part, where) for part in value]


def _as_object(value: Any) -> Fields:
    return value if isinstance(value, Mapping) else {}


_CHECKS: dict[str, Callable[[Any, str], None]] = {
    "text": _check_text,
    **dict.fromkeys(("image", "video", "audio", "document", "sticker"), _check_media),
    "template": _check_template_shape,
    "interactive": _check_interactive,
    "location": _check_location,
    "contacts": _check_contacts,
    "reaction": _check_reaction,
}
