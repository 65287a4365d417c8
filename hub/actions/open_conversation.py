"""Verb: find or make the conversation that a service writes into first (rules B8, E3)."""

from datetime import datetime
from uuid import UUID

from hub.actions.limits import check_opening
from hub.actions.resolve import identity, resolve
from hub.actions.send_facts import Channel, lock_channel
from hub.domain import policy
from hub.domain.addresses import phone_key
from hub.domain.errors import Conflict, Fault, Invalid, NotFound
from hub.domain.limits import Limits
from hub.store import limits as counts
from hub.store import numbers, subscriptions
from hub.store.pool import Connection
from hub.store.routes import ChannelRoute, Route
from providers.base import Customer, Medium


async def open_conversation(
    conn: Connection, service_id: UUID, e164: str, medium: Medium, to: Customer, limits: Limits, now: datetime, *,
    is_agent: bool,
) -> UUID:  # fmt: skip
    """The conversation with a customer on a medium, in the service's channel on a number; made where there is none.

    An address that is written to first counts as proved: the contact made for it is nobody but who is reached there,
    nothing else is claimed of them, and so their answer, which comes from that address, finds this conversation. (What
    a profile merely says somebody's phone is stays unproved, and is not found here either: B8.)

    Raises `Invalid` (the number itself), `NotFound`, `Conflict` (`not_connected`, `no_sender`), `TooMany`
    (`looks_automated`), `TryAgain`.
    """
    if to.phone and phone_key(to.phone) == phone_key(e164):
        raise Invalid("a number cannot write to itself (rule B8)", errors=[Fault("/to", "own_number", "is the sender")])
    number = await numbers.find_number(conn, e164)
    if number is None:
        raise NotFound("this number is not registered with the hub")
    current = await subscriptions.find_subscription(conn, number["id"], service_id)
    if current is None:
        raise _not_connected()
    channel = await lock_channel(conn, current["channel_id"])
    if not channel.has(service_id):
        raise _not_connected()
    sender = await numbers.find_sender(conn, number["id"], medium)
    if sender is None:
        raise Conflict("the number has no active sender for this medium; register one (rule A1)", code="no_sender")
    if is_agent:  # before contacts are touched (lock order)
        await counts.lock(conn, service_id)
    route = Route(number["id"], e164, sender["id"], medium, (ChannelRoute(channel.row["id"], is_unrouted=False),))
    threads = await resolve(conn, [(route, to)])
    conversation_id = threads[channel.row["id"], medium, identity(to)].conversation.id
    is_new = await counts.set_opened(conn, conversation_id, service_id)
    if is_new and is_agent and not _may_automate(channel, service_id):
        await check_opening(conn, service_id, limits, now)
    return conversation_id


def _may_automate(channel: Channel, service_id: UUID) -> bool:
    parent = subscriptions.parent_of(channel.members, channel.row["parent_epoch"])
    is_allowed: bool = channel.row["standalone_may_automate"]
    return policy.may_automate(channel.row["kind"], service_id, parent, standalone_may_automate=is_allowed)


def _not_connected() -> Conflict:
    return Conflict(
        "this service is not connected to the number it wants to write from; connect it first", code="not_connected"
    )
