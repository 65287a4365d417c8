"""A customer who acts: writes, taps, reacts, and hears what the business sends."""

from collections.abc import Mapping
from typing import Any

from providers.simulator import meta_webhooks, twilio_webhooks
from providers.simulator.ledger import Medium, Number, Person, ProviderName, SimulatedSend
from providers.simulator.posting import Posted
from providers.simulator.server import Simulator


class NotAccepted(AssertionError):
    """The hub did not take a webhook."""

    def __init__(self, posted: Posted) -> None:
        super().__init__(f"{posted.path} ended with {posted.status} after {posted.tries} tries")
        self.posted = posted


class Customer:
    """`person` in conversation with `number`, through one provider. Actions raise `NotAccepted` unless answered 200."""

    def __init__(
        self,
        simulator: Simulator,
        person: Person,
        number: Number,
        *,
        provider: ProviderName = "meta",
        medium: Medium = "whatsapp",
    ) -> None:
        self.person = person
        self.number = number
        self.provider: ProviderName = provider
        self.medium: Medium = medium
        self._simulator = simulator
        self._heard = 0

    async def says(self, text: str, *, reply_to: str | None = None) -> str:
        """Write a text, perhaps quoting the business's message `reply_to`. Gives the provider's message id."""
        return await self.sends(meta_webhooks.text(text), reply_to=reply_to)

    async def reacts(self, target: str, emoji: str | None) -> str:
        """React to a message, or with None take it back."""
        return await self.sends(meta_webhooks.reaction(target, emoji))

    async def edits(self, target: str, text: str) -> str:
        """Change one's own message."""
        return await self.sends(meta_webhooks.edit(target, meta_webhooks.text(text)))

    async def revokes(self, target: str) -> str:
        """Delete one's own message."""
        return await self.sends(meta_webhooks.revoke(target))

    async def sends(self, content: Mapping[str, Any], *, reply_to: str | None = None) -> str:
        """Send any content built by `meta_webhooks`; at Twilio `ValueError` for what it does not hand on."""
        if self.provider == "meta":
            return await self._over_meta(content, reply_to)
        return await self._over_twilio(content, reply_to)

    async def prefers_marketing(self, wants: bool) -> None:
        """Stop or resume the number's marketing messages, in the settings of WhatsApp. Meta only: `ValueError`."""
        if self.provider != "meta":
            raise ValueError("Twilio does not hand this on")
        pairs = {(self.number.e164, address) for address in self.person.addresses}
        stopped = self._simulator.meta_api.stopped
        self._simulator.meta_api.stopped = stopped - pairs if wants else stopped | pairs
        at = self._simulator.ledger.clock()
        body = meta_webhooks.user_preferences(self.person, self.number, "resume" if wants else "stop", at)
        _check(await self._simulator.post_meta(body))

    @property
    def received(self) -> list[SimulatedSend]:
        """What the business sent to this customer from this number."""
        return [send for send in self._simulator.sent if self._is_for_me(send)]

    async def hears(self, timeout: float = 5.0) -> SimulatedSend:  # noqa: ASYNC109
        """The next message not heard yet, in order; waits for it. Raises `TimeoutError`."""
        await self._simulator.wait_for(lambda: len(self.received) > self._heard, timeout)
        self._heard += 1
        return self.received[self._heard - 1]

    def _is_for_me(self, send: SimulatedSend) -> bool:
        place = (send.provider, send.medium, send.number)
        return place == (self.provider, self.medium, self.number) and send.to in self.person.addresses

    async def _over_meta(self, content: Mapping[str, Any], reply_to: str | None) -> str:
        ledger = self._simulator.ledger
        message_id = ledger.wamid()
        quoted = (self.number.e164.removeprefix("+"), reply_to) if reply_to else None
        item = meta_webhooks.message(self.person, content, message_id=message_id, at=ledger.clock(), reply_to=quoted)
        entry = meta_webhooks.Entry(self.number, item, self.person)
        _check(await self._simulator.post_meta(meta_webhooks.batch([entry])))
        return message_id

    async def _over_twilio(self, content: Mapping[str, Any], reply_to: str | None) -> str:
        sid = self._simulator.ledger.sid()
        form = twilio_webhooks.message(
            self.number,
            self.person,
            content,
            medium=self.medium,
            account_sid=self._simulator.twilio_account_sid,
            sid=sid,
            reply_to=reply_to,
        )
        self._simulator.twilio_api.add_inbound(form)
        _check(await self._simulator.post_twilio(form))
        return sid


def _check(posted: Posted) -> None:
    if posted.status != 200:
        raise NotAccepted(posted)
