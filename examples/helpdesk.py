"""A helpdesk: people answer customers here. Today Ana is on duty, and she answers everyone.

python examples/helpdesk.py --hub http://127.0.0.1:8080 --key plk_... --number +15550001111
"""

from collections.abc import Mapping
from typing import Any

from backend import Backend, main

from partyline_client import Event, Problem


class Helpdesk(Backend):
    """A helpdesk: keeps an inbox, and Ana answers what comes in while she is on duty."""

    name = "helpdesk"
    on_duty = True

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.inbox: dict[str, list[str]] = {}  # conversation id -> what was said, by whom

    async def on_event(self, event: Event) -> None:
        """Answer the customer, and keep the conversation."""
        if event.type == "message.received":
            name = event.contact["name"]  # an SMS brings none
            if self.on_duty:
                await self._answer(event, f"Hello {name}" if name else "Hello")
            self._note(event, f"{name or 'the customer'}: {event.text or event.message['type']}")
        elif event.type == "message.queued":
            self._note(event, f"{_writer(event.message)}: {event.text or '(hidden)'}")
        elif event.type == "message.status" and event.message["status"] == "failed":
            self._note(event, f"the reply of {_writer(event.message)} did not arrive")

    async def _answer(self, event: Event, greeting: str) -> None:
        """Ana writes. The event's id makes sure that she answers each message once, even after a crash."""
        text = f"{greeting}, this is Ana. I am looking into it."
        try:
            answer = await self.reply(event, text, agent="Ana", once=f"answer-{event.id}")
        except Problem as refusal:
            if refusal.is_temporary:
                raise  # the hub sends the event again
            self._note(event, f"Ana cannot answer: {refusal.code}")  # nor could she next time
            return
        for warning in answer["warnings"]:  # somebody else is in this conversation too: told, never blocked
            self.say(f"helpdesk: {warning['code']}, {warning['agent']} of {warning['service']}")

    def _note(self, event: Event, line: str) -> None:
        self.inbox.setdefault(str(event.conversation_id), []).append(line)
        self.say(f"helpdesk: {line}")

    def page(self) -> str:
        """Every conversation, as its lines."""
        return "\n\n".join("\n".join([conversation, *lines]) for conversation, lines in self.inbox.items())


def _writer(message: Mapping[str, Any]) -> str:
    """Who wrote an outgoing message: the agent's name where there is one, and the service."""
    agent, author = message.get("agent") or {}, message["author"] or {}
    return f"{agent.get('name') or message['origin']} ({author.get('name') or 'outside the hub'})"


if __name__ == "__main__":
    main(Helpdesk)
