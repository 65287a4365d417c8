"""How often a network asked for links that do not exist (rule H4): whoever guesses does not reach the database."""

from time import monotonic
from typing import Final

MISSES_PER_MINUTE: Final = 60
"""Of one /24 or /48; then it gets no answer about links that are not remembered, until the minute is over."""
_MINUTE: Final = 60.0
_NETWORKS: Final = 20_000
"""Networks that are counted at a time."""


class Misses:
    """Counts by network, each in minutes of its own."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[float, int]] = {}

    def add(self, prefix: str) -> None:
        """One more."""
        began, count = self._current(prefix)
        self._counts[prefix] = began, count + 1
        if len(self._counts) > _NETWORKS:
            self._trim()

    def wait_of(self, prefix: str) -> int:
        """Seconds until this network may ask again; 0: it may."""
        began, count = self._current(prefix)
        return max(1, round(began + _MINUTE - monotonic())) if count >= MISSES_PER_MINUTE else 0

    def _current(self, prefix: str) -> tuple[float, int]:
        now = monotonic()
        began, count = self._counts.get(prefix, (now, 0))
        return (began, count) if now - began < _MINUTE else (now, 0)

    def _trim(self) -> None:
        """Forget minutes that are over, or else the half that began first."""
        now = monotonic()
        counts = {prefix: kept for prefix, kept in self._counts.items() if now - kept[0] < _MINUTE}
        if len(counts) > _NETWORKS // 2:
            counts = dict(sorted(counts.items(), key=lambda item: item[1])[len(counts) // 2 :])
        self._counts = counts
