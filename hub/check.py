"""Looks for misconfiguration."""

from config.settings import Settings


async def report(settings: Settings) -> int:
    """Say what is wrong; 0 where nothing is."""
    return 0
