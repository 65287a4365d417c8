"""From the fields about the business's numbers and accounts to an item: what is wrong with a sender, and what is not
any more, under the stable codes that checks use, too (docs/providers.md).
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from providers.base import Item, SenderNotice
from providers.whatsapp_cloud.batch import Change
from providers.whatsapp_cloud.values import as_dict, ident, text_of

Value = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Said:
    """What a notice comes to."""

    raises: dict[str, str] = field(default_factory=dict)
    clears: frozenset[str] = frozenset()
    facts: dict[str, str] = field(default_factory=dict)


def read_notice(value: Value, change: Change, is_cleaned: bool) -> Item:
    """A notice; what it does not say clearly raises nothing and clears nothing."""
    said = _READERS[change.field](value)
    account = change.account_ref(value)
    if waba_id := ident(as_dict(value.get("waba_info")).get("waba_id")):
        account = replace(account, account=waba_id)
    if number_id := _number_id(value):
        account = replace(account, external_id=number_id)
    return SenderNotice(
        key=change.notice_key(value),
        account=account,
        at=change.time,
        topic=change.field,
        raises=said.raises,
        clears=said.clears - set(said.raises),
        facts=said.facts,
        content=value,
        cleaned=is_cleaned,
    )


def _number_id(value: Value) -> str | None:
    """The number it is about, where it is named by its id."""
    if _word(value, "entity_type") == "phone_number":
        return ident(value.get("entity_id"))
    return ident(as_dict(value.get("phone_number_settings")).get("phone_number_id"))


def _word(value: Value, name: str) -> str:
    return (text_of(value.get(name)) or "").lower()


def _facts(**told: Any) -> dict[str, str]:
    return {name: text.lower() for name, value in told.items() if (text := ident(value))}


# One field each -----------------------------------------------------------------------------------------------------

_QUALITY: Final = frozenset({"quality_low", "quality_red"})
_RESTRICTIONS: Final = frozenset(
    {"account_restricted", "account_limited", "account_disable_scheduled", "account_violation"}
)


def _number_quality(value: Value) -> Said:
    limit = value.get("max_daily_conversations_per_business") or value.get("current_limit")
    event, score = _word(value, "event"), _word(value, "new_quality_score") or _word(value, "quality_rating")
    facts = _facts(messaging_limit=limit, quality=score)
    if event == "flagged" or score == "red":
        detail = "Customers block or report this number much: its quality is low. Stop campaigns until it is better."
        return Said({"quality_red": detail}, _QUALITY, {"quality": "red"} | facts)
    if score == "yellow":
        detail = "Customers block or report this number: its quality is medium. Send less that was not asked for."
        return Said({"quality_low": detail}, _QUALITY, facts)
    if event == "unflagged" or score == "green":
        return Said(clears=_QUALITY, facts=facts)
    return Said(facts=facts | (_facts(throughput="high") if event == "throughput_upgrade" else {}))


def _number_name(value: Value) -> Said:
    decision = _word(value, "decision")
    if decision == "approved":
        name = text_of(value.get("requested_verified_name"))
        facts = {"name_status": decision} | ({"verified_name": name} if name else {})
        return Said(clears=frozenset({"name_declined"}), facts=facts)
    if decision in ("rejected", "declined"):
        reason = text_of(value.get("rejection_reason")) or "no reason given"
        detail = f"Meta declined the display name ({reason}): choose another one in the WhatsApp Manager."
        return Said({"name_declined": detail}, facts={"name_status": "declined"})
    return Said(facts=_facts(name_status=decision))


def _account(value: Value) -> Said:
    event = _word(value, "event")
    if event == "disabled_update":
        return _ban(value)
    if event == "account_restriction":
        return _restriction(value)
    if event == "account_violation":
        kind = text_of(as_dict(value.get("violation_info")).get("violation_type")) or "kind not told"
        detail = f"Meta found a violation of its policies ({kind}): see Business Support Home before it restricts more."
        return Said({"account_violation": detail})
    return _ACCOUNT_EVENTS.get(event, Said(facts=_facts(country=value.get("country"))))


def _ban(value: Value) -> Said:
    state = as_dict(value.get("ban_info")).get("waba_ban_state")
    states = {str(word).upper() for word in (state if isinstance(state, list) else [state]) if word}
    if states == {"REINSTATE"}:
        return Said(clears=_RESTRICTIONS)
    if states == {"SCHEDULE_FOR_DISABLE"}:
        date = text_of(as_dict(value.get("ban_info")).get("waba_ban_date")) or "a date not told"
        detail = f"Meta will disable the WhatsApp business account on {date}: see Business Support Home, and appeal."
        return Said({"account_disable_scheduled": detail})
    detail = "Meta has disabled the WhatsApp business account: see Business Support Home, and appeal there."
    return Said({"account_restricted": detail}, frozenset({"account_disable_scheduled"}))


def _restriction(value: Value) -> Said:
    """Whether anything can still be sent depends on what is restricted."""
    told = value.get("restriction_info")
    entries = [as_dict(entry) for entry in told] if isinstance(told, list) else [as_dict(told)]
    kinds = {kind.upper(): entry for entry in entries if (kind := text_of(entry.get("restriction_type")))}
    ends = [end for entry in entries if (end := ident(entry.get("expiration")))]
    until = f" until {ends[0]}" if ends else ""
    names = ", ".join(sorted(kinds)) or "kind not told"
    facts = {"restrictions": ", ".join(sorted(kinds)).lower()} if kinds else {}
    cure = "see Business Support Home, and appeal there."
    if not kinds or "RESTRICTED_CUSTOMER_INITIATED_MESSAGING" in kinds:
        detail = f"Meta has restricted the WhatsApp business account{until} ({names}): {cure}"
        return Said({"account_restricted": detail}, frozenset({"account_limited"}), facts)
    if "RESTRICTED_BIZ_INITIATED_MESSAGING" in kinds:
        detail = f"Only customers who write can be answered{until}: Meta has restricted the account ({names}): {cure}"
        return Said({"account_limited": detail}, facts=facts)
    return Said(clears=frozenset({"account_limited"}), facts=facts)


_GONE: Final = "The WhatsApp business account was deleted: register the number in another one."
_UNSHARED: Final = "The business account is not shared with this app any more: give it its permissions again."
_OFFBOARDED: Final = "The number left the Cloud API (a new device, or registered elsewhere): register it again."
_ACCOUNT_EVENTS: Final[dict[str, Said]] = {
    "account_deleted": Said({"account_restricted": _GONE}),
    "partner_removed": Said({"permission_missing": _UNSHARED}),
    "partner_app_uninstalled": Said({"permission_missing": _UNSHARED}),
    "partner_added": Said(clears=frozenset({"permission_missing"})),
    "partner_app_installed": Said(clears=frozenset({"permission_missing"})),
    "account_offboarded": Said({"sender_not_registered": _OFFBOARDED}),
    "account_reconnected": Said(clears=frozenset({"sender_not_registered"})),
    "account_reinstated": Said(clears=_RESTRICTIONS),
}


def _alert(value: Value) -> Said:
    """A raise of the limit that was denied, a badge, a lost photo: nothing that keeps messages from going out."""
    info = as_dict(value.get("alert_info")) or value
    return Said(facts=_facts(alert=info.get("alert_type"), alert_severity=info.get("alert_severity")))


def _review(value: Value) -> Said:
    decision = _word(value, "decision")
    facts = _facts(account_review=decision)
    if decision == "approved":
        return Said(clears=frozenset({"account_restricted", "account_in_review"}), facts=facts)
    if decision == "rejected":
        detail = "Meta rejected the WhatsApp business account in its review: see Business Support Home."
        return Said({"account_restricted": detail}, frozenset({"account_in_review"}), facts)
    if decision in ("pending", "deferred"):
        detail = "Meta has not decided on the WhatsApp business account yet: until then it cannot be used in full."
        return Said({"account_in_review": detail}, facts=facts)
    return Said(facts=facts)


def _capability(value: Value) -> Said:
    limits = ("max_daily_conversations_per_business", "max_daily_conversation_per_phone")
    limit = next((value[name] for name in limits if value.get(name) is not None), None)
    return Said(facts=_facts(messaging_limit="unlimited" if limit == -1 else limit))


def _business(value: Value) -> Said:
    event = _word(value, "event")
    if "compromised" in event:
        detail = "Meta takes the business for compromised: secure its accounts and tokens, then see Security Center."
        return Said({"security_alert": detail})
    return Said(facts=_facts(business_status=event))


def _security(value: Value) -> Said:
    event = _word(value, "event")
    if event == "pin_reset_request":
        detail = "Somebody asked to turn two-step verification off: make sure that it was one of you."
        return Said({"security_alert": detail})
    if event == "pin_request_success":
        detail = "Two-step verification is off: set a PIN in the WhatsApp Manager."
        return Said({"two_step_pin_off": detail}, frozenset({"security_alert"}))
    if event == "pin_changed":
        return Said(clears=frozenset({"two_step_pin_off", "security_alert"}))
    return Said(facts=_facts(security=event))


def _settings(value: Value) -> Said:
    calling = as_dict(as_dict(value.get("phone_number_settings")).get("calling"))
    return Said(facts=_facts(calling=calling.get("status")))


_READERS: Final[dict[str, Callable[[Value], Said]]] = {
    "phone_number_quality_update": _number_quality,
    "phone_number_name_update": _number_name,
    "account_update": _account,
    "account_alerts": _alert,
    "account_review_update": _review,
    "business_capability_update": _capability,
    "business_status_update": _business,
    "security": _security,
    "account_settings_update": _settings,
}
NOTICE_FIELDS: Final = tuple(_READERS)
"""The fields that are about numbers and accounts."""
