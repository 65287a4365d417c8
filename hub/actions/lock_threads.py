"""The conversations of a batch: found or made, and locked in one order (rules B8, E2)."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from hub.actions.arrivals import Entry
from hub.actions.batch import Batch, Placed, is_history, is_ours, provider_time
from hub.actions.resolve import Identity, Thread, ThreadKey, identity, resolve
from hub.store import conversations
from hub.store.pool import TryAgain
from hub.store.routes import Route
from providers.base import ControlChanged, Customer, MessageReceived


async def find_threads(batch: Batch, entries: Sequence[Placed]) -> None:
    """Every conversation of the batch: from memory, or found, or made. Who is in its history only keeps their name."""
    missing: dict[ThreadKey, tuple[Route, Customer]] = {}
    quiet: set[Identity] = set()
    for item, route, _ in sorted(entries, key=lambda entry: is_history(entry[0])):
        customer, who, is_old = item.customer, identity(item.customer), is_history(item)
        for channel in route.channels:
            key = channel.id, route.medium, who
            if key in batch.threads or (is_old and key in missing):
                continue
            thread = batch.directory.find(key)
            if thread is None or not (is_old or customer.name in {None, thread.contact.name}):
                missing[key] = route, customer
                quiet |= {who} if is_old else set()
            else:
                batch.threads[key] = thread
    if missing:
        found = await resolve(batch.conn, list(missing.values()), quiet)
        batch.threads |= found
        batch.found = frozenset(found)
        # Whose history is told may have written meanwhile, in webhooks that are late: theirs are looked at closely.
        batch.learned = {key: thread for key, thread in found.items() if key[2] not in quiet}


async def lock_threads(batch: Batch, entries: Sequence[Placed], others: Collection[UUID]) -> None:
    """Lock the conversations with their next numbers; what was remembered of one must still stand.

    Raises `TryAgain` where it does not.
    """
    wanted: dict[UUID, tuple[int, datetime | None]] = dict.fromkeys(others, (0, None))
    for item, route, _ in entries:
        taken, written = _takes(item), _written(item, batch.now)
        for channel in route.channels:
            key = batch.thread(item, route, channel).conversation.id
            count, latest = wanted.get(key, (0, None))
            wanted[key] = count + taken, max(latest or written, written) if written else latest
    batch.states = await conversations.number_events(batch.conn, wanted)
    batch.numbered = {key: state.last_sequence + wanted[key][0] for key, state in batch.states.items()}
    stale = [key for key, thread in batch.threads.items() if _is_stale(batch, thread)]
    if stale:
        batch.directory.forget(stale)
        raise TryAgain("contacts of this batch have changed")


def _takes(item: Entry) -> int:
    """Numbers that an entry surely takes: history counts downwards, and not every news of hands is a change."""
    return 0 if is_history(item) or isinstance(item, ControlChanged) else 1


def _written(item: Entry, now: datetime) -> datetime | None:
    """When the customer wrote this, where it is a message of the customer's to us: the reply window counts from it."""
    if not isinstance(item, MessageReceived) or is_ours(item) or item.is_history or not item.opens_window:
        return None
    at = provider_time(item.at)
    return min(at, now) if at else now


def _is_stale(batch: Batch, thread: Thread) -> bool:
    state = batch.states.get(thread.conversation.id)
    return state is None or state.generation != thread.conversation.generation
