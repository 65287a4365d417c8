"""Webhooks from the hub in an ASGI application: alone, or under Starlette and FastAPI.

    api.add_route("/partyline", webhook(Receiver(secret), handle))

A `mount` would redirect what is posted to its very path, and the hub follows no redirects.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Unpack

from partyline_client.answers import Answer
from partyline_client.inbox import TOO_LARGE, Inbox, Options, Work
from partyline_client.receiver import Receiver

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
_NOT_ALLOWED = Answer(405, {"Allow": "POST"})


class Webhook:
    """An ASGI application."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Take one request, or live for as long as the server does."""
        match scope["type"]:
            case "http":
                answer = await _take(self._inbox, scope, receive)
                if answer is not None:
                    await _send(answer, send)
            case "lifespan":
                await _live(receive, send)
            case other:
                raise RuntimeError(f"the hub posts webhooks over HTTP; this is {other}")


def webhook(receiver: Receiver, work: Work, **options: Unpack[Options]) -> Webhook:
    """An ASGI application: verifies what the hub posts, drops repeats, has `work` done on each event, answers."""
    return Webhook(Inbox(receiver, work, **options))


async def _take(inbox: Inbox, scope: Message, receive: Receive) -> Answer | None:
    """None: whoever asked has gone, and nothing was done."""
    if scope["method"] != "POST":
        return _NOT_ALLOWED
    body, has_more = bytearray(), True
    while has_more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > inbox.max_bytes:
            return TOO_LARGE
        has_more = message.get("more_body", False)
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    return await inbox.take(bytes(body), headers)


async def _send(answer: Answer, send: Send) -> None:
    headers = [(b"content-length", b"0")]
    headers += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def _live(receive: Receive, send: Send) -> None:
    """Nothing has to be started or stopped."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
