"""Why something is quarantined, and what to do about it, in words for the operator (docs/errors.md has the same)."""

from typing import Final

_NOTHING: Final = "Nothing: its content was taken in. The entry keeps the exact bytes."
_REPORT: Final = "Report it with these bytes, and replay it once the hub was mended. Nothing is lost meanwhile."
_WORDS: Final = {
    "unknown_number": (
        "No sender with this phone_number_id or number is registered here.",
        "Register the number, or give it this sender; then replay.",
    ),
    "unknown_account": (
        "A notice about templates, senders or an account of which no sender is registered here.",
        "Register a number with a sender of this account, or name the account at its sender; then replay.",
    ),
    "no_number": ("The item does not say which number it is for.", _REPORT),
    "no_customer": ("The item does not say who wrote.", _REPORT),
    "invalid_json": ("The body is no JSON, though the provider signed it.", _REPORT),
    "unexpected_shape": ("It is not what the provider documents.", _REPORT),
    "too_deep": ("It is nested deeper than anything the provider documents.", _REPORT),
    "empty_change": ("A change of Meta's without any item in it.", "Nothing, unless there are many: then ask Meta."),
    "unhandled_field": (
        "A kind of webhook that this version does not read.",
        "Take the field off the app's subscription at the provider, or replay after an update that reads it.",
    ),
    "not_needed": ("The hub has no business with it: a group, an address book, a request for control.", "Nothing."),
    "provider_error": (
        "The provider reports an error about the number, not about a message.",
        "Read what it says below and mend it at the provider; replaying changes nothing.",
    ),
    "parser_failed": ("The hub failed while it read this.", _REPORT),
    "not_storable": ("The hub failed while it stored this.", _REPORT),
    "no_such_route": (
        "It was spooled while the database was away, and its provider is not connected any more.",
        "Connect the provider again with its settings; then replay.",
    ),
    "content_type": ("A note: it came with another content type than its provider documents.", _NOTHING),
    "charset": ("A note: its text was in another encoding than it said.", _NOTHING),
    "text_cleaned": ("A note: characters that cannot be stored were taken out of its text.", _NOTHING),
}


def meaning_of(reason: str) -> str:
    """Why an entry is there."""
    return _WORDS.get(reason, ("This version has no words for this reason.", ""))[0]


def cure_of(reason: str) -> str:
    """What to do."""
    return _WORDS.get(reason, ("", "See the section on the quarantine in the documents: /docs/errors."))[1]
