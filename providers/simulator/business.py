"""What happens on the business's side of a number at Meta, beside the hub: phone app, Meta's agent, account."""

from collections.abc import Mapping, Sequence
from typing import Any

from providers.simulator import meta_account, meta_fields, meta_webhooks
from providers.simulator.ledger import Number, Person
from providers.simulator.meta_fields import Holder, Past
from providers.simulator.scenario import NotAccepted
from providers.simulator.server import Simulator


class Business:
    """One number's owner. Actions raise `NotAccepted` unless answered 200."""

    def __init__(self, simulator: Simulator, number: Number) -> None:
        self.number = number
        self._simulator = simulator

    async def echoes(self, person: Person, content: Mapping[str, Any] | str, *, at: float | None = None) -> str:
        """Write to a customer from the phone app. Gives the message's id."""
        return await self._writes(meta_fields.echo, person, content, at)

    async def agent_says(self, person: Person, content: Mapping[str, Any] | str, *, at: float | None = None) -> str:
        """Meta's own agent writes to a customer. Gives the message's id."""
        return await self._writes(meta_fields.standby_echo, person, content, at)

    async def hands_over(self, person: Person, to: Holder, *, at: float | None = None) -> None:
        """A conversation goes to Meta's own agent, or back to the business."""
        await self.posts(meta_fields.handover(self.number, person, to, at=self._at(at)))

    async def shares_history(
        self, threads: Mapping[Person, Sequence[Past]], *, phase: int = 0, chunk: int = 1, progress: int = 100
    ) -> None:
        """A piece of what was written before the number was connected."""
        await self.posts(meta_fields.history(self.number, threads, phase=phase, chunk=chunk, progress=progress))

    async def shares_file(self, person: Person, past: Past) -> None:
        """The file of a message of the history, which was a placeholder before."""
        await self.posts(meta_fields.history_media(self.number, person, past))

    async def template(self, template: Mapping[str, Any], event: str, *, reason: str | None = "NONE") -> None:
        """A template is approved, rejected, paused..."""
        await self.posts(meta_account.template_status(self.number, template, event, at=self._at(None), reason=reason))

    async def quality(self, event: str, *, current: str = "TIER_1K", previous: str | None = None) -> None:
        """The number's quality or limit is another."""
        at = self._at(None)
        await self.posts(meta_account.phone_quality(self.number, event, at=at, current=current, previous=previous))

    async def posts(self, body: Mapping[str, Any]) -> None:
        """Let Meta post any body, such as those of `meta_account`."""
        posted = await self._simulator.post_meta(body)
        if posted.status != 200:
            raise NotAccepted(posted)

    async def _writes(self, build: Any, person: Person, content: Mapping[str, Any] | str, at: float | None) -> str:
        message_id = self._simulator.ledger.wamid()
        shown = meta_webhooks.text(content) if isinstance(content, str) else content
        await self.posts(build(self.number, person, shown, message_id=message_id, at=self._at(at)))
        return message_id

    def _at(self, at: float | None) -> float:
        return self._simulator.ledger.clock() if at is None else at
