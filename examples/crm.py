"""A CRM: shows each customer's history. What other services wrote appears in its place, but masked.

python examples/crm.py --hub http://127.0.0.1:8080 --key plk_... --number +15550001111
"""

from collections.abc import Mapping
from typing import Any

from backend import Backend, main

from partyline_client import Event

Message = Mapping[str, Any]


class Crm(Backend):
    """A CRM: one card per customer, with every message in it; other services' texts stay theirs."""

    name = "CRM"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.people: dict[str, str] = {}  # contact id -> name
        self.cards: dict[str, dict[str, Message]] = {}  # contact id -> message id -> the message as we may see it

    async def on_event(self, event: Event) -> None:
        """Write down, or bring up to date, one entry of one card."""
        if not event.type.startswith("message."):
            return
        contact, message = event.contact, event.message
        self.people[contact["id"]] = contact["name"] or (contact["addresses"] or [{"value": "unknown"}])[0]["value"]
        card = self.cards.setdefault(contact["id"], {})
        card[message["id"]] = {**card.get(message["id"], {}), **message}
        self.say(f"CRM: {self.people[contact['id']]} | {entry(card[message['id']])}")

    def page(self) -> str:
        """Every card."""
        return "\n\n".join(
            "\n".join([self.people[contact], *(f"  {entry(message)}" for message in card.values())])
            for contact, card in self.cards.items()
        )


def entry(message: Message) -> str:
    """One line of a card: who, what, and how far it got."""
    if message["direction"] == "inbound":
        return f"wrote by {message['medium']}: {message.get('text', message['type'])}"
    agent, author = message.get("agent") or {}, message["author"] or {}
    who = f"{agent.get('name') or message['origin']} of {author.get('name') or 'somebody outside the hub'}"
    what = f"[{message['type']}, not ours to read]" if message.get("masked") else message.get("text", message["type"])
    return f"{who} answered: {what} ({message['status']})"


if __name__ == "__main__":
    main(Crm)
