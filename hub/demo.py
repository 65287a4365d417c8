"""Plays the story live."""


async def play(*, once: bool, port: int) -> int:
    """Play it; 0 when every step held."""
    return 0
