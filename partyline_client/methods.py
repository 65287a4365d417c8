"""The calls as methods, each once: blocking for `Hub`, awaitable for `AsyncHub`.

What takes several requests is written once, too: a generator that yields requests and pauses, and is given answers.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from functools import wraps
from typing import Any, Concatenate, Final, Literal, ParamSpec, Protocol, TypeVar, Unpack

from partyline_client import calls
from partyline_client.calls import Wanted
from partyline_client.request import Listing, Request
from partyline_client.views import Connection, Message

P = ParamSpec("P")
T = TypeVar("T")
Talk = Generator[Request[Any] | float, Any, T]
"""Yields a request to send, and is given what its answer means; or seconds to wait. Returns what came of it."""
_ORDER: Final = ("sent", "delivered", "read")
_ENDS: Final = {"failed", "cancelled"}


class Secrets(Protocol):
    """Where the signing secrets of numbers are kept, such as `Store.secrets`."""

    def of(self, number: str) -> list[str]:
        """Those that are good now, the newest first."""
        ...

    def add(self, number: str, secret: str, overlap_seconds: float = ...) -> None:
        """Keep a new one; the others are good for so long yet."""
        ...


# What takes several requests ----------------------------------------------------------------------------------------


def _join(number: str, secrets: Secrets, **wanted: Unpack[Wanted]) -> Talk[Connection]:
    """Connect, and see to it that the signing secret is known before the first event is posted.

    Where none is known yet, the number is first connected without an endpoint: events wait meanwhile.
    """
    if wanted.get("endpoint_url") and not secrets.of(number):
        quietly = wanted.copy()
        quietly["endpoint_url"] = None
        made: Connection = yield calls.connect(number, **quietly)
        if "signing_secret" in made:
            secrets.add(number, made["signing_secret"])
        else:  # told once, and lost since
            yield from _rotate(number, secrets)
    connection: Connection = yield calls.connect(number, **wanted)
    if "signing_secret" in connection:
        secrets.add(number, connection["signing_secret"])
    return connection


def _rotate(number: str, secrets: Secrets) -> Talk[str]:
    """Ask for a new signing secret and keep it; the old one is good as long as the hub still signs with it."""
    made = yield calls.rotate_secret(number)
    secrets.add(number, made["signing_secret"], made["overlap_seconds"])
    return str(made["signing_secret"])


def _outcome(
    message_id: str, status: Literal["sent", "delivered", "read"] = "sent", *, patience: float = 60.0
) -> Talk[Message]:
    """Wait until a message is `sent` (`delivered`, `read`) or will never be; after `patience` seconds it is given as it
    is then. Statuses also come as `message.status` events, without asking.
    """
    wanted = {*_ORDER[_ORDER.index(status) :], *_ENDS}
    pause, left = 0.1, patience
    while True:
        message: Message = yield calls.message(message_id)
        if message.get("status") in wanted or left <= 0:
            return message
        yield min(pause, left)
        left -= pause
        pause = min(pause * 1.5, 2.0)


# Blocking -----------------------------------------------------------------------------------------------------------


def _blocking(make: Callable[P, Request[T]]) -> Callable[Concatenate["Blocking", P], T]:
    @wraps(make)
    def method(self: "Blocking", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.call(make(*args, **kwargs))

    return method


def _each(make: Callable[P, Listing[T]]) -> Callable[Concatenate["Blocking", P], Iterator[T]]:
    @wraps(make)
    def method(self: "Blocking", /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return self.each(make(*args, **kwargs))

    return method


def _run(talk: Callable[P, Talk[T]]) -> Callable[Concatenate["Blocking", P], T]:
    @wraps(talk)
    def method(self: "Blocking", /, *args: P.args, **kwargs: P.kwargs) -> T:
        steps, answer = talk(*args, **kwargs), None
        try:
            while True:
                step = steps.send(answer)
                if isinstance(step, Request):
                    answer = self.call(step)
                else:
                    time.sleep(step)
        except StopIteration as end:
            result: T = end.value
            return result

    return method


class Blocking:
    """All calls, blocking. Lists are iterators over all of their pages."""

    def call(self, request: Request[T]) -> T:
        """Send any request, again where that is safe: what its answer means."""
        raise NotImplementedError

    def each(self, listing: Listing[T]) -> Iterator[T]:
        """The items of a list, page by page as they are asked for."""
        request: Request[Any] | None = listing.first
        while request is not None:
            page = self.call(request)
            yield from page.items
            request = listing.following(page)

    connect = _blocking(calls.connect)
    disconnect = _blocking(calls.disconnect)
    join = _run(_join)
    pause = _blocking(calls.pause)
    resume = _blocking(calls.resume)
    rotate_secret = _blocking(calls.rotate_secret)
    rotate = _run(_rotate)
    numbers = _each(calls.numbers)
    number = _blocking(calls.number)
    templates = _each(calls.templates)
    conversations = _each(calls.conversations)
    conversation = _blocking(calls.conversation)
    timeline = _each(calls.timeline)
    pick_up = _blocking(calls.pick_up)
    release = _blocking(calls.release)
    presence = _blocking(calls.presence)
    pass_to = _blocking(calls.pass_to)
    mark_read = _blocking(calls.mark_read)
    reply = _blocking(calls.reply)
    send = _blocking(calls.send)
    message = _blocking(calls.message)
    outcome = _run(_outcome)
    cancel = _blocking(calls.cancel)
    upload_media = _blocking(calls.upload_media)
    media = _blocking(calls.media)
    refetch_media = _blocking(calls.refetch_media)
    events = _blocking(calls.events)
    deliveries = _each(calls.deliveries)
    parked = _each(calls.parked)
    dead_letters = _each(calls.dead_letters)
    drop_dead_letter = _blocking(calls.drop_dead_letter)
    drop_dead_letters = _blocking(calls.drop_dead_letters)
    replay = _blocking(calls.replay)
    replays = _each(calls.replays)
    replay_state = _blocking(calls.replay_state)
    cancel_replay = _blocking(calls.cancel_replay)
    trace = _blocking(calls.trace)
    identify = _blocking(calls.identify)
    contacts = _each(calls.contacts)
    contact = _blocking(calls.contact)
    contact_timeline = _each(calls.contact_timeline)
    export_contact = _blocking(calls.export_contact)
    erase_contact = _blocking(calls.erase_contact)
    visitor = _blocking(calls.visitor)
    merge_candidates = _each(calls.merge_candidates)
    merge = _blocking(calls.merge)
    operations = _each(calls.operations)
    undo = _blocking(calls.undo)
    consent = _blocking(calls.consent)
    set_consent = _blocking(calls.set_consent)
    create_link = _blocking(calls.create_link)
    create_links = _blocking(calls.create_links)
    link = _blocking(calls.link)
    disable_link = _blocking(calls.disable_link)
    message_links = _blocking(calls.message_links)
    campaign_links = _each(calls.campaign_links)
    request = _blocking(calls.request)


# Awaitable ----------------------------------------------------------------------------------------------------------


def _awaitable(make: Callable[P, Request[T]]) -> Callable[Concatenate["Awaitable", P], Coroutine[Any, Any, T]]:
    @wraps(make)
    async def method(self: "Awaitable", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.call(make(*args, **kwargs))

    return method


def _async_each(make: Callable[P, Listing[T]]) -> Callable[Concatenate["Awaitable", P], AsyncIterator[T]]:
    @wraps(make)
    def method(self: "Awaitable", /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        return self.each(make(*args, **kwargs))

    return method


def _async_run(talk: Callable[P, Talk[T]]) -> Callable[Concatenate["Awaitable", P], Coroutine[Any, Any, T]]:
    @wraps(talk)
    async def method(self: "Awaitable", /, *args: P.args, **kwargs: P.kwargs) -> T:
        steps, answer = talk(*args, **kwargs), None
        try:
            while True:
                step = steps.send(answer)
                if isinstance(step, Request):
                    answer = await self.call(step)
                else:
                    await asyncio.sleep(step)
        except StopIteration as end:
            result: T = end.value
            return result

    return method


class Awaitable:
    """All calls, to be awaited. Lists are asynchronous iterators over all of their pages."""

    async def call(self, request: Request[T]) -> T:
        """Send any request, again where that is safe: what its answer means."""
        raise NotImplementedError

    async def each(self, listing: Listing[T]) -> AsyncIterator[T]:
        """The items of a list, page by page as they are asked for."""
        request: Request[Any] | None = listing.first
        while request is not None:
            page = await self.call(request)
            for item in page.items:
                yield item
            request = listing.following(page)

    connect = _awaitable(calls.connect)
    disconnect = _awaitable(calls.disconnect)
    join = _async_run(_join)
    pause = _awaitable(calls.pause)
    resume = _awaitable(calls.resume)
    rotate_secret = _awaitable(calls.rotate_secret)
    rotate = _async_run(_rotate)
    numbers = _async_each(calls.numbers)
    number = _awaitable(calls.number)
    templates = _async_each(calls.templates)
    conversations = _async_each(calls.conversations)
    conversation = _awaitable(calls.conversation)
    timeline = _async_each(calls.timeline)
    pick_up = _awaitable(calls.pick_up)
    release = _awaitable(calls.release)
    presence = _awaitable(calls.presence)
    pass_to = _awaitable(calls.pass_to)
    mark_read = _awaitable(calls.mark_read)
    reply = _awaitable(calls.reply)
    send = _awaitable(calls.send)
    message = _awaitable(calls.message)
    outcome = _async_run(_outcome)
    cancel = _awaitable(calls.cancel)
    upload_media = _awaitable(calls.upload_media)
    media = _awaitable(calls.media)
    refetch_media = _awaitable(calls.refetch_media)
    events = _awaitable(calls.events)
    deliveries = _async_each(calls.deliveries)
    parked = _async_each(calls.parked)
    dead_letters = _async_each(calls.dead_letters)
    drop_dead_letter = _awaitable(calls.drop_dead_letter)
    drop_dead_letters = _awaitable(calls.drop_dead_letters)
    replay = _awaitable(calls.replay)
    replays = _async_each(calls.replays)
    replay_state = _awaitable(calls.replay_state)
    cancel_replay = _awaitable(calls.cancel_replay)
    trace = _awaitable(calls.trace)
    identify = _awaitable(calls.identify)
    contacts = _async_each(calls.contacts)
    contact = _awaitable(calls.contact)
    contact_timeline = _async_each(calls.contact_timeline)
    export_contact = _awaitable(calls.export_contact)
    erase_contact = _awaitable(calls.erase_contact)
    visitor = _awaitable(calls.visitor)
    merge_candidates = _async_each(calls.merge_candidates)
    merge = _awaitable(calls.merge)
    operations = _async_each(calls.operations)
    undo = _awaitable(calls.undo)
    consent = _awaitable(calls.consent)
    set_consent = _awaitable(calls.set_consent)
    create_link = _awaitable(calls.create_link)
    create_links = _awaitable(calls.create_links)
    link = _awaitable(calls.link)
    disable_link = _awaitable(calls.disable_link)
    message_links = _awaitable(calls.message_links)
    campaign_links = _async_each(calls.campaign_links)
    request = _awaitable(calls.request)
