"""How much may be with providers at once, and each sender's share of that (rule E9)."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Slots:
    """How many messages may be with providers at once, of all senders together.

    A sender gets at most three quarters of what the others leave, so that one whose provider has fallen silent never
    keeps the rest waiting, and busy ones come to share alike.
    """

    total: int
    _taken: Counter[int] = field(default_factory=Counter)

    def _most(self, sender: int) -> int:
        left = self.total - self._taken.total() + self._taken[sender]
        return max(1, left * 3 // 4) if left else 0

    def take(self, sender: int) -> bool:
        """Take a slot; False where the sender has its share."""
        if self._taken[sender] >= self._most(sender):
            return False
        self._taken[sender] += 1
        return True

    def put_back(self, sender: int) -> None:
        """A message came back from its provider."""
        self._taken[sender] -= 1

    def full(self) -> list[int]:
        """Senders that have their share just now."""
        return [sender for sender, taken in self._taken.items() if taken and taken >= self._most(sender)]
