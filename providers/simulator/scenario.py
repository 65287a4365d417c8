"""A customer who acts: writes, taps, reacts, calls, and hears what the business sends."""

from collections.abc import Mapping, Sequence
from typing import Any

from providers.simulator import meta_fields, meta_webhooks, twilio_webhooks
from providers.simulator.ledger import Medium, Number, Person, ProviderName, SimulatedSend
from providers.simulator.posting import Posted
from providers.simulator.server import Simulator


class NotAccepted(AssertionError):
    """The hub did not take a webhook."""

    def __init__(self, posted: Posted) -> None:
        super().__init__(f"{posted.path} ended with {posted.status} after {posted.tries} tries")
        self.posted = posted


class Customer:
    """`person` in conversation with `number`, through one provider. Actions raise `NotAccepted` unless answered 200.

    While Meta's own agent `is_with_agent`, what the customer writes comes by the field `standby`.
    """

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
        self.is_with_agent = False
        self._simulator = simulator
        self._heard = 0

    async def says(self, text: str, *, reply_to: str | None = None) -> str:
        """Write a text, perhaps quoting the business's message `reply_to`. Gives the provider's message id."""
        return await self.sends(meta_webhooks.text(text), reply_to=reply_to)

    async def sends_file(
        self,
        kind: str,
        content: bytes,
        mime_type: str,
        *,
        caption: str | None = None,
        filename: str | None = None,
        voice: bool | None = None,
    ) -> str:
        """Send a file that can be fetched, as an image, video, audio, document or sticker (`kind`)."""
        file = self._simulator.shelf.add(content, mime_type, filename)
        described = meta_webhooks.media(
            kind, file.id, mime_type, caption=caption, filename=filename, sha256=file.sha256_base64, voice=voice
        )
        return await self.sends(described)

    async def sends_mms(self, text: str, files: Sequence[tuple[bytes, str]]) -> str:
        """Send an MMS with these files (content and type). Twilio only."""
        kept = [self._simulator.shelf.add(content, mime_type) for content, mime_type in files]
        listed = [(file.id, file.mime_type) for file in kept]
        return await self._over_twilio(meta_webhooks.text(text), None, more_media=listed)

    async def opts(self, choice: twilio_webhooks.OptOut, text: str | None = None) -> str:
        """Write a keyword to a number with Advanced Opt-Out, where Twilio tells what it makes of it. Twilio only."""
        return await self._over_twilio(meta_webhooks.text(text or choice), None, opt_out=choice)

    async def reacts(self, target: str, emoji: str | None) -> str:
        """React to a message, or with None take it back."""
        return await self.sends(meta_webhooks.reaction(target, emoji))

    async def edits(self, target: str, text: str) -> str:
        """Change one's own message."""
        return await self.sends(meta_webhooks.edit(target, meta_webhooks.text(text)))

    async def revokes(self, target: str) -> str:
        """Delete one's own message."""
        return await self.sends(meta_webhooks.revoke(target))

    async def sends(
        self,
        content: Mapping[str, Any],
        *,
        reply_to: str | None = None,
        group_id: str | None = None,
        forwarded: bool = False,
        at: float | None = None,
    ) -> str:
        """Send any content built by `meta_webhooks`; at Twilio `ValueError` for what it does not hand on.

        `at` is the provider's time in unix seconds, now where it is not given; a group is Meta's only.
        """
        if self.provider == "meta":
            return await self._over_meta(content, reply_to, group_id=group_id, forwarded=forwarded, at=at)
        return await self._over_twilio(content, reply_to, at=at)

    async def calls(self, *, seconds: int | None = 60) -> str:
        """Call, and hang up after a while; with None nobody answered. Gives the call's id. Meta only."""
        call_id = f"wacid.{self._simulator.ledger.wamid().removeprefix('wamid.')}"
        now = self._simulator.ledger.clock()
        begun = meta_fields.call(self.number, self.person, call_id=call_id, event="connect", at=now)
        ended = meta_fields.call(
            self.number,
            self.person,
            call_id=call_id,
            event="terminate",
            at=now + (seconds or 30),
            duration=seconds,
            status="FAILED" if seconds is None else "COMPLETED",
        )
        for body in (begun, ended):
            _check(await self._simulator.post_meta(body))
        return call_id

    async def changes_number(self, new: Person) -> str:
        """Go on with another number, perhaps another id too; Meta tells it in a message. Gives its id."""
        message_id = await self._tells_change(meta_webhooks.changed_number(self.person, new))
        self.person = new
        return message_id

    async def changes_user_id(self, new: Person) -> str:
        """Get another business-scoped id, which Meta tells in a message."""
        message_id = await self._tells_change(meta_webhooks.changed_user_id(self.person, new))
        self.person = new
        return message_id

    async def gets_user_id(self, new: Person) -> None:
        """The same, told in the field `user_id_update`."""
        at = self._simulator.ledger.clock()
        _check(await self._simulator.post_meta(meta_fields.user_id_update(self.number, self.person, new, at=at)))
        self.person = new

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
        known_as = self._simulator.meta_api.wa_ids.get(send.to, send.to) if self.provider == "meta" else send.to
        is_mine = not self.person.addresses.isdisjoint((send.to, known_as))
        return place == (self.provider, self.medium, self.number) and is_mine

    async def _tells_change(self, content: Mapping[str, Any]) -> str:
        """Meta's own message about a customer; unlike others it has no profile with it."""
        ledger = self._simulator.ledger
        message_id = ledger.wamid()
        item = meta_webhooks.message(self.person, content, message_id=message_id, at=ledger.clock())
        body = meta_webhooks.batch([meta_webhooks.Entry(self.number, item, self.person)])
        del body["entry"][0]["changes"][0]["value"]["contacts"]
        _check(await self._simulator.post_meta(body))
        return message_id

    async def _over_meta(
        self, content: Mapping[str, Any], reply_to: str | None, *, at: float | None = None, **envelope: Any
    ) -> str:
        ledger = self._simulator.ledger
        message_id = ledger.wamid()
        quoted = (self.number.e164.removeprefix("+"), reply_to) if reply_to else None
        item = meta_webhooks.message(
            self.person,
            content,
            message_id=message_id,
            at=ledger.clock() if at is None else at,
            reply_to=quoted,
            **envelope,
        )
        if self.is_with_agent:
            _check(await self._simulator.post_meta(meta_fields.standby(self.number, self.person, item)))
            return message_id
        entry = meta_webhooks.Entry(self.number, item, self.person)
        _check(await self._simulator.post_meta(meta_webhooks.batch([entry])))
        return message_id

    async def _over_twilio(
        self, content: Mapping[str, Any], reply_to: str | None, *, at: float | None = None, **more: Any
    ) -> str:
        """Listed by Twilio in any case; while it loses its webhooks, that is all."""
        sid = self._simulator.ledger.sid()
        form = twilio_webhooks.message(
            self.number,
            self.person,
            content,
            medium=self.medium,
            account_sid=self._simulator.twilio_account_sid,
            sid=sid,
            reply_to=reply_to,
            api_url=self._simulator.url or twilio_webhooks.API,
            **more,
        )
        self._simulator.twilio_api.add_inbound(form, at=at)
        posted = await self._simulator.post_twilio(form)
        if not self._simulator.loses_twilio_webhooks:
            _check(posted)
        return sid


def _check(posted: Posted) -> None:
    if posted.status != 200:
        raise NotAccepted(posted)
