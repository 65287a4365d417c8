"""The fields of a message to Twilio, and what it refuses of them."""

import json
import re
from collections.abc import Container, Mapping
from typing import Any
from urllib.parse import parse_qsl

from providers.simulator.ledger import Medium

Fields = dict[str, Any]

_REPEATED = ("MediaUrl", "PersistentAction")
_MAX_BODY = 1600
_MAX_MEDIA = {"sms": 10, "whatsapp": 1}
_CONTENT_SID = re.compile(r"HX[0-9a-fA-F]{32}")
_PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_GEO = re.compile(r"geo:(-?\d+(?:\.\d+)?),(-?\d+(?:\.\d+)?)(?:\|.*)?", re.DOTALL)


def read_fields(body: str) -> Fields:
    """The form's fields; those that may be given several times are lists, of the others the last counts."""
    fields: Fields = {}
    for name, value in parse_qsl(body, keep_blank_values=True):
        if name in _REPEATED:
            fields.setdefault(name, []).append(value)
        else:
            fields[name] = value
    return fields


def bare(address: str) -> str:
    """The address without the channel's prefix."""
    return address.removeprefix("whatsapp:")


def medium_of(fields: Mapping[str, Any]) -> Medium:
    """What the message goes over."""
    return "whatsapp" if str(fields.get("To", "")).startswith("whatsapp:") else "sms"


def kind_of(fields: Mapping[str, Any]) -> str:
    """What kind of message the fields make."""
    if fields.get("ContentSid"):
        return "template"
    if fields.get("MediaUrl"):
        return "media"
    return "location" if fields.get("PersistentAction") and medium_of(fields) == "whatsapp" else "text"


def shown_text(fields: Mapping[str, Any], contents: Mapping[str, Mapping[str, Any]]) -> str | None:
    """What the customer reads: the body, or that of a template that is known, with its variables filled in."""
    content = contents.get(fields.get("ContentSid", ""))
    if content is None:
        return fields.get("Body")
    values = {**content["variables"], **json.loads(fields.get("ContentVariables") or "{}")}
    body = next((part["body"] for part in content["types"].values() if "body" in part), None)
    return body and _PLACEHOLDER.sub(lambda place: str(values.get(place[1], place[0])), body)


def refused_code(fields: Mapping[str, Any], contents: Container[str] | None) -> int | None:
    """Twilio's code for what is wrong with a message; `contents` are the templates it knows, None: any."""
    if not _is_address(fields.get("To", "")):
        return 21211
    if fields.get("ContentSid") or fields.get("ContentVariables"):
        return _refused_template(fields, contents)
    if not fields.get("Body") and not fields.get("MediaUrl"):
        return 21619
    if len(fields.get("Body", "")) > _MAX_BODY:
        return 21617
    return _refused_media(fields) or _refused_action(fields)


def _refused_template(fields: Mapping[str, Any], contents: Container[str] | None) -> int | None:
    sid = fields.get("ContentSid")
    if not sid:
        return 21654
    if not _CONTENT_SID.fullmatch(sid) or (contents is not None and sid not in contents):
        return 21655
    if fields.get("Body") or fields.get("MediaUrl"):
        return 63030
    return None if _are_variables(fields.get("ContentVariables")) else 21656


def _are_variables(text: str | None) -> bool:
    if text is None:
        return True
    try:
        variables = json.loads(text)
    except ValueError:
        return False
    return isinstance(variables, dict) and all(isinstance(value, str) and value for value in variables.values())


def _refused_media(fields: Mapping[str, Any]) -> int | None:
    urls = fields.get("MediaUrl", [])
    if len(urls) > _MAX_MEDIA[medium_of(fields)]:
        return 21623
    return None if all(url.startswith(("https://", "http://")) for url in urls) else 21620


def _refused_action(fields: Mapping[str, Any]) -> int | None:
    for action in fields.get("PersistentAction", []):
        point = _GEO.fullmatch(action)
        if point is None or abs(float(point[1])) > 90 or abs(float(point[2])) > 180:
            return 63021
    return None


def _is_address(to: str) -> bool:
    address = bare(to)
    is_phone = address.startswith("+") and address[1:].isdigit() and 7 <= len(address) <= 16
    return is_phone or (to.startswith("whatsapp:") and address[:2].isalpha() and address[2:3] == ".")
