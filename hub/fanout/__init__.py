"""The delivery engine: event log to signed webhooks, in order per conversation."""
