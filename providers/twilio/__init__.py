"""Twilio, SMS and WhatsApp: `connect()` gives the provider; it sends through the SDK, `webhook` reads."""

from providers.twilio.provider import connect

__all__ = ["connect"]
