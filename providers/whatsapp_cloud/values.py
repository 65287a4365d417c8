"""Reading values that somebody else wrote: JSON, ids, times, texts. Nothing here assumes a type.

Text from outside is cleaned of NUL and lone surrogates, which PostgreSQL and UTF-8 cannot hold. Only a body that
`needs_care` is searched for them item by item, so that ordinary bodies pay for one look at the bytes.
"""

import json
import math
import re
from typing import Any, Final

import orjson

MAX_DEPTH: Final = 64
"""Deeper items are not taken in: orjson, which writes our events, gives up at 254 levels."""

_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
_PHONE: Final = re.compile(r"\+?([1-9][0-9]{6,14})")
_YEAR_2000: Final = 946_684_800.0
_YEAR_2100: Final = 4_102_444_800.0
# Integers beyond these become floats, as orjson reads them.
_MIN_INT: Final = -(2**63)
_MAX_INT: Final = 2**64 - 1


def load(body: bytes) -> tuple[Any, bool]:
    """The document in a body, and whether its texts need care (see `settle`). Raises ValueError or RecursionError."""
    try:
        return orjson.loads(body), b"\\" in body and b"u0000" in body
    except orjson.JSONDecodeError:
        # The standard library also takes lone surrogates, NaN and a byte order mark.
        return json.loads(body), True


def may_be_deep(body: bytes) -> bool:
    """Whether anything in a body may be deeper than `MAX_DEPTH`."""
    return body.count(b"{") + body.count(b"[") > MAX_DEPTH


def settle(value: Any) -> Any:
    """The same value with nothing in it that cannot be stored or written as JSON again."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("", value)
    if isinstance(value, dict):
        return {settle(name): settle(item) for name, item in value.items()}
    if isinstance(value, list):
        return [settle(item) for item in value]
    if isinstance(value, float) or (isinstance(value, int) and not _MIN_INT <= value <= _MAX_INT):
        return number_of(value)
    return value


def is_deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested in `value` more than `levels` deep."""
    if isinstance(value, dict):
        children = list(value.values())
    elif isinstance(value, list):
        children = value
    else:
        return False
    return levels == 0 or any(is_deeper(child, levels - 1) for child in children)


def inner_json(text: str) -> Any:
    """What a JSON text inside a field says; the text itself if it does not parse or could not be stored."""
    try:
        value = orjson.loads(text)
    except ValueError:
        return text
    return text if is_deeper(value, MAX_DEPTH // 2) or settle(value) != value else value


def dumps(value: Any) -> bytes:
    """Compact JSON, also of what orjson refuses. Raises ValueError or RecursionError."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()


def canonical(value: Any) -> bytes:
    """The same bytes for equal JSON values, whatever the order of their keys (rule B4)."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def ident(value: Any) -> str | None:
    """An id as text, numbers included; None for everything that is no id."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return str(value)


def text_of(value: Any) -> str | None:
    """A text, or None."""
    return value if isinstance(value, str) else None


def as_dict(value: Any) -> dict[str, Any]:
    """An object, or an empty one."""
    return value if isinstance(value, dict) else {}


def number_of(value: Any) -> float | None:
    """A finite number, also from a text."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def unix_time(value: Any) -> float | None:
    """Unix seconds from a number or a text; None outside the years 2000 to 2100."""
    number = number_of(value)
    return number if number is not None and _YEAR_2000 <= number < _YEAR_2100 else None


def moment(value: Any) -> float | None:
    """Unix seconds, from seconds or from milliseconds, which Meta's notices have in places."""
    number = number_of(value)
    if number is not None and number >= _YEAR_2100:
        number /= 1000
    return unix_time(number)


def digits_of(value: Any) -> str | None:
    """The digits of a number as it is displayed, with or without a plus, spaces and dashes."""
    text = ident(value)
    return "".join(re.findall("[0-9]", text)) or None if text else None


def phone_of(address: str) -> str | None:
    """E.164 with a plus, exactly the digits reported; None where this is no phone number."""
    match = _PHONE.fullmatch(address)
    return f"+{match[1]}" if match else None


def errors_of(value: Any) -> list[dict[str, Any]]:
    """Meta's list of errors as `code`, `title` and `detail`."""
    return [_error(error) for error in (value if isinstance(value, list) else [value])]


def _error(error: Any) -> dict[str, Any]:
    if not isinstance(error, dict):
        return {"code": None, "title": None, "detail": ident(error)}
    detail = as_dict(error.get("error_data")).get("details") or error.get("message") or error.get("details")
    return {"code": ident(error.get("code")), "title": text_of(error.get("title")), "detail": text_of(detail)}
