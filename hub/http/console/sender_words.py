"""What to do about each problem of a sender, in words for the operator (docs/providers.md has the table)."""

from typing import Final

_CURES: Final = {
    "token_revoked": "Make new credentials at the provider, configure them, and restart the hub.",
    "permission_missing": "Give the token both WhatsApp permissions for the account.",
    "account_restricted": "Read the provider's messages to you, and appeal there.",
    "sender_not_registered": "Register the number at the provider, or correct the sender's external id below.",
    "payment_required": "Put the means of payment at the provider in order.",
    "account_limited": "See Business Support Home at Meta. Customers who write can still be answered.",
    "account_disable_scheduled": "Appeal before the day it names.",
    "account_violation": "Keep to the policy it names.",
    "account_in_review": "Wait, or answer what Meta asks.",
    "quality_low": "Send less that was not asked for.",
    "quality_red": "Stop campaigns until it is better.",
    "limit_reached": "Wait for the 24 hours to pass. Customers who write can still be answered.",
    "throttled": "Nothing: messages wait and go more slowly. A lower rate, below, keeps it away.",
    "fields_missing": "Subscribe the app to the fields it names, and to the business account.",
    "webhook_elsewhere": "Set the hub's address at the provider, or correct PARTYLINE_PUBLIC_URL.",
    "callbacks_silent": "Run partyline check, and see that the provider reaches the hub.",
    "unreachable": "See the network, and the provider's status page.",
    "name_declined": "Choose another display name.",
    "security_alert": "Make sure that it was one of you.",
    "two_step_pin_off": "Set a PIN for two-step verification at Meta.",
}


def cure_of(code: str) -> str:
    """What to do about a problem."""
    return _CURES.get(code, "See what the provider says of it.")
