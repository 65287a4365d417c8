"""Meta's WhatsApp Cloud API: `connect()` gives the provider; it sends through pywa, `webhook` reads."""

from providers.whatsapp_cloud.provider import connect

__all__ = ["connect"]
