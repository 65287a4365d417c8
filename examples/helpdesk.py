"""A helpdesk: people answer customers here. Today Ana is on duty, and she answers everyone.

python examples/helpdesk.py --hub http://127.0.0.1:8080 --key plk_... --number +15550001111
"""

from typing import Any

from backend import Backend, Event, main


class Helpdesk(Backend):
    """A helpdesk: keeps an inbox, and Ana answers what comes in while she is on duty."""

    name = "helpdesk"
    on_duty = True

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.inbox: dict[str, list[str]] = {}  # conversation id -> what was said, by whom

    async def on_event(self, event: Event) -> None:
        """Keep the conversation, and answer the customer."""
        data = event["data"]
        if event["type"] == "message.received":
            name = data["contact"]["name"]  # an SMS brings none
            self._note(data, f"{name or 'the customer'}: {data['message'].get('text', data['message']['type'])}")
            if self.on_duty:
                await self._answer(data, f"Hello {name}" if name else "Hello")
        elif event["type"] == "message.queued":
            self._note(data, f"{_writer(data['message'])}: {data['message'].get('text', '(hidden)')}")
        elif event["type"] == "message.status" and data["message"]["status"] == "failed":
            self._note(data, f"the reply of {_writer(data['message'])} did not arrive")

    async def _answer(self, data: dict[str, Any], greeting: str) -> None:
        """Ana writes. The event's id makes sure that she answers each message once, even after a crash."""
        text = f"{greeting}, this is Ana. I am looking into it."
        answer = await self.reply(data["conversation"]["id"], text, agent="Ana", once=f"answer-{data['event_id']}")
        for warning in answer["warnings"]:  # somebody else is in this conversation too: told, never blocked
            self.say(f"helpdesk: {warning['code']}, {warning['agent']} of {warning['service']}")

    def _note(self, data: dict[str, Any], line: str) -> None:
        self.inbox.setdefault(data["conversation"]["id"], []).append(line)
        self.say(f"helpdesk: {line}")

    def page(self) -> str:
        """Every conversation, as its lines."""
        return "\n\n".join("\n".join([conversation, *lines]) for conversation, lines in self.inbox.items())


def _writer(message: dict[str, Any]) -> str:
    """Who wrote an outgoing message: the agent's name where there is one, and the service."""
    agent, author = message.get("agent") or {}, message["author"] or {}
    return f"{agent.get('name') or message['origin']} ({author.get('name') or 'outside the hub'})"


if __name__ == "__main__":
    main(Helpdesk)
