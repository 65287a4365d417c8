"""Bodies as Meta posts them about a business's own things: templates, quality, its account, security.

https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference (the fields' own names).
"""

from collections.abc import Mapping
from typing import Any

from providers.simulator.ledger import Number
from providers.simulator.meta_fields import change
from providers.simulator.meta_webhooks import Json, digits, present


def template_status(
    number: Number, template: Mapping[str, Any], event: str, *, at: float, reason: str | None = "NONE"
) -> Json:
    """A template is `APPROVED`, `REJECTED`, `PAUSED`, `DISABLED`...; `template` as Graph lists it."""
    value = {"event": event, **_named(template), "reason": reason}
    return change(number, "message_template_status_update", value, at=at)


def template_quality(number: Number, template: Mapping[str, Any], previous: str, new: str, *, at: float) -> Json:
    """A template's quality is another: `GREEN`, `YELLOW`, `RED`."""
    value = {"previous_quality_score": previous, "new_quality_score": new, **_named(template)}
    return change(number, "message_template_quality_update", value, at=at)


def template_category(number: Number, template: Mapping[str, Any], previous: str, new: str, *, at: float) -> Json:
    """A template is of another category: `MARKETING`, `UTILITY`, `AUTHENTICATION`."""
    value = {**_named(template), "previous_category": previous, "new_category": new}
    return change(number, "template_category_update", value, at=at)


def template_components(number: Number, template: Mapping[str, Any], text: str, *, at: float) -> Json:
    """A template's body is another."""
    value = {**_named(template), "message_template_element": text}
    return change(number, "message_template_components_update", value, at=at)


def phone_quality(
    number: Number, event: str, *, at: float, current: str = "TIER_1K", previous: str | None = None
) -> Json:
    """A number is `FLAGGED` or no more (`UNFLAGGED`), or its limit is another (`UPGRADE`, `DOWNGRADE`)."""
    fields = {
        "display_phone_number": digits(number.e164),
        "event": event,
        "old_limit": previous,
        "current_limit": current,
    }
    return change(number, "phone_number_quality_update", present(fields), at=at)


def phone_name(number: Number, decision: str, *, at: float, name: str = "Simulated Business") -> Json:
    """The name customers see was `APPROVED` or `REJECTED`."""
    value = {
        "display_phone_number": digits(number.e164),
        "decision": decision,
        "requested_verified_name": name,
        "rejection_reason": "NONE" if decision == "APPROVED" else "NAME_NOT_ALLOWED",
    }
    return change(number, "phone_number_name_update", value, at=at)


def account_restricted(number: Number, restriction: str, *, at: float, until: float | None = None) -> Json:
    """The account may not do something for a while, such as `RESTRICTED_BIZ_INITIATED_MESSAGING`."""
    info = present({"restriction_type": restriction, "expiration": None if until is None else int(until)})
    value = {"event": "ACCOUNT_RESTRICTION", "restriction_info": [info]}
    return change(number, "account_update", value, at=at)


def account_violation(number: Number, violation: str, *, at: float) -> Json:
    """The account broke a rule, such as `SPAM`."""
    value = {"event": "ACCOUNT_VIOLATION", "violation_info": {"violation_type": violation}}
    return change(number, "account_update", value, at=at)


def account_banned(number: Number, state: str, *, at: float) -> Json:
    """The account is disabled (`DISABLE`), will be (`SCHEDULE_FOR_DISABLE`), or is back (`REINSTATE`)."""
    value = {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": state, "waba_ban_date": "January 2, 2026"}}
    return change(number, "account_update", value, at=at)


def account_reviewed(number: Number, decision: str, *, at: float) -> Json:
    """The account was looked at: `APPROVED`, `REJECTED`, `PENDING`, `DEFERRED`."""
    return change(number, "account_review_update", {"decision": decision}, at=at)


def account_alert(number: Number, alert: str, *, at: float, severity: str = "WARNING") -> Json:
    """Meta has something to say about the number, such as `INCREASED_CAPABILITIES_ELIGIBILITY_DEFERRED`."""
    value = {
        "entity_type": "PHONE_NUMBER",
        "entity_id": number.phone_number_id,
        "alert_info": {
            "alert_severity": severity,
            "alert_status": "ACTIVE",
            "alert_type": alert,
            "alert_description": "Simulated",
        },
    }
    return change(number, "account_alerts", value, at=at)


def capability(number: Number, daily: str, *, at: float) -> Json:
    """How many customers the business may write to in a day: `TIER_250`, `TIER_2K`..."""
    value = {"max_daily_conversations_per_business": daily, "max_phone_numbers_per_business": 25}
    return change(number, "business_capability_update", value, at=at)


def security(number: Number, event: str, *, at: float) -> Json:
    """Somebody touched the number's PIN: `PIN_CHANGED`, `PIN_RESET_REQUEST`, `PIN_REQUEST_SUCCESS`."""
    requester = "61555822107539" if event == "PIN_RESET_REQUEST" else None
    fields = {"display_phone_number": digits(number.e164), "event": event, "requester": requester}
    return change(number, "security", present(fields), at=at)


def _named(template: Mapping[str, Any]) -> Json:
    return {
        "message_template_id": int(template["id"]),
        "message_template_name": template["name"],
        "message_template_language": template["language"],
    }
