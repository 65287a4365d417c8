"""From the fields about templates to an item: what Meta changed of one."""

from collections.abc import Callable
from typing import Any, Final

from providers.base import Item, TemplateChanged
from providers.whatsapp_cloud.batch import Change
from providers.whatsapp_cloud.values import ident, text_of

Told = dict[str, Any]

_PREFIX: Final = "message_template_"
_NAMES: Final = ("id", "name", "language")


def read_template_news(value: dict[str, Any], change: Change, is_cleaned: bool) -> Item:
    """A template's status, quality, category or components, now and before."""
    kind, read = _READERS[change.field]
    told = read(value)
    external_id, name, language = (ident(value.get(_PREFIX + part)) for part in _NAMES)
    if told is None or not (external_id or name):
        return change.unparsed("unexpected_shape", change.field, "", value)
    return TemplateChanged(
        key=change.notice_key(value),
        account=change.account_ref(value),
        at=change.time,
        external_id=external_id,
        name=name,
        language=language,
        change=kind,
        content={"change": kind, "reason": None, **told, "details": _rest(value)},
        cleaned=is_cleaned,
    )


def _status(value: Told) -> Told | None:
    reason = _word(value.get("reason"))
    current = _word(value.get("event"))
    return {"previous": None, "current": current, "reason": None if reason == "none" else reason} if current else None


def _quality(value: Told) -> Told | None:
    current = _word(value.get("new_quality_score"))
    return {"previous": _word(value.get("previous_quality_score")), "current": current} if current else None


def _category(value: Told) -> Told | None:
    """A change to come names the category that it still has as the new one, and the coming one as the correct one."""
    previous, current = _word(value.get("previous_category")), _word(value.get("new_category"))
    correct = _word(value.get("correct_category"))
    told = {"previous": previous, "current": current} | ({"correct": correct} if correct else {})
    return told if current or correct else None


def _detection(value: Told) -> Told | None:
    """It is sent as one category and is another: nothing has changed yet."""
    current, correct = _word(value.get("category")), _word(value.get("correct_category"))
    return {"previous": None, "current": current, "correct": correct} if correct else None


def _components(value: Told) -> Told | None:
    return {"previous": None, "current": None}


def _word(value: Any) -> str | None:
    text = text_of(value)
    return text.lower() if text else None


def _rest(value: Told) -> Told:
    """What else was said, in Meta's own words."""
    known = {_PREFIX + part for part in _NAMES} | _SAID
    return {name: part for name, part in value.items() if name not in known and part is not None}


_SAID: Final = frozenset(
    {
        *("event", "reason", "new_quality_score", "previous_quality_score", "category"),
        *("previous_category", "new_category", "correct_category"),
    }
)
_READERS: Final[dict[str, tuple[str, Callable[[Told], Told | None]]]] = {
    "message_template_status_update": ("status", _status),
    "message_template_quality_update": ("quality", _quality),
    "message_template_components_update": ("components", _components),
    "template_category_update": ("category", _category),
    "template_correct_category_detection": ("category", _detection),
}
TEMPLATE_FIELDS: Final = tuple(_READERS)
"""The fields that are about templates."""
