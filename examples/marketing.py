"""A marketing tool: it only listens, and knows who wrote, where, and when last.

python examples/marketing.py --hub http://127.0.0.1:8080 --key plk_... --number +15550001111
"""

from typing import Any

from backend import Backend, main

from partyline_client import Event


class Marketing(Backend):
    """A marketing tool: counts its audience, and minds who may send automation on the number."""

    name = "marketing"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.audience: dict[str, dict[str, Any]] = {}  # contact id -> name, media, messages, last
        self.may_automate = False

    async def on_event(self, event: Event) -> None:
        """Count the customer in. Every event says anew whether our bots may speak: only the parent's may."""
        self.may_automate = event.may_automate
        if event.type == "channel.parent_changed" and event.data["parent"]:
            self.say(f"marketing: {event.data['parent']['name']} is the parent now")
        if event.type == "message.received":
            person = self.audience.setdefault(event.contact["id"], {"media": set(), "messages": 0})
            person["name"], person["last"] = event.contact["name"] or "somebody", event.timestamp
            person["media"].add(event.message["medium"])
            person["messages"] += 1
            self.say(f"marketing: {person['name']} wrote, the audience is {len(self.audience)}")

    def page(self) -> str:
        """The audience, and whether a campaign could be sent from here."""
        lines = [
            f"{person['name']}: {person['messages']} messages by {' and '.join(sorted(person['media']))}, "
            f"last {person['last']:%d %B %Y, %H:%M}"
            for person in self.audience.values()
        ]
        return "\n".join([*lines, f"may send automation: {'yes' if self.may_automate else 'no'}"])


if __name__ == "__main__":
    main(Marketing)
