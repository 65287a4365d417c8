"""What becomes of consent when a customer has another number: what was refused holds for the new one, what was granted
does not go along, and whoever has the old number next has agreed to nothing (rule E5).
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from hub.actions import describe
from hub.actions.consents import find_consent
from hub.domain.addresses import MATCHED_TYPES, Address
from hub.domain.consent import CONSENT_MEDIA, Consent, ConsentEvent, changes_anything, refusals
from hub.domain.events import EventDraft
from hub.store import consents, contacts
from hub.store.consents import LedgerDraft, name_key
from hub.store.conversations import ConversationState
from hub.store.pool import Connection

_MEDIA: Final = tuple(medium for medium in CONSENT_MEDIA if medium != "email")


async def carry(conn: Connection, old: Collection[Address], new: Collection[Address], at: datetime) -> None:
    """Write into the ledger what follows for these addresses; they are locked."""
    usable: dict[str, Address] = {address.type: address for address in new if address.type in MATCHED_TYPES}
    former = [address for address in dict.fromkeys(old) if address.type in MATCHED_TYPES]
    if not usable or not former:
        return
    names = {name_key(medium, a) for medium in _MEDIA for a in (*former, *usable.values())}
    ledgers: dict[consents.NameKey, list[ConsentEvent]] = {name: [] for name in names}
    for name, event in await consents.find(conn, sorted(names)):
        ledgers[name].append(event)
    drafts: list[LedgerDraft] = []
    for medium in _MEDIA:
        for address in former:
            target = usable.get(address.type) or usable.get("phone") or next(iter(usable.values()))
            said = ledgers[name_key(medium, address)]
            drafts += _note(ledgers, medium, target, refusals(said))
            if address.type == "phone":
                drafts += _note(ledgers, medium, address, [ConsentEvent("replaced", None, "provider", at)])
    await consents.add(conn, drafts)


def _note(
    ledgers: Mapping[consents.NameKey, list[ConsentEvent]], medium: str, address: Address, said: Sequence[ConsentEvent]
) -> list[LedgerDraft]:
    """Those that make a difference to what was said of this address."""
    ledger, drafts = ledgers[name_key(medium, address)], []
    for event in said:
        if changes_anything(ledger, event):
            ledger.append(event)
            drafts.append(LedgerDraft(medium, address, event.number_id, event.kind, event.source, event.at))
    return drafts


async def list_standing(conn: Connection, states: Collection[ConversationState]) -> dict[UUID, Consent]:
    """What holds in each of these conversations."""
    people = await contacts.list_contacts(conn, {state.contact_id for state in states})
    return {
        state.id: await find_consent(conn, people[state.contact_id], state.medium, state.number_id, state.reply_to)
        for state in states
        if state.reply_to.value
    }


async def compare(
    conn: Connection, states: Collection[ConversationState], before: Mapping[UUID, Consent], now: datetime
) -> list[EventDraft]:
    """`consent.changed` where something else holds than did before."""
    after = await list_standing(conn, states)
    people = await contacts.list_contacts(conn, {state.contact_id for state in states})
    drafts = []
    for state in sorted(states, key=lambda state: state.id):
        was, holds = before.get(state.id), after.get(state.id)
        if was and holds and (was.status, was.is_marketing_stopped) != (holds.status, holds.is_marketing_stopped):
            consent = {
                "medium": state.medium,
                "address": state.reply_to.value,
                "number": state.e164,
                "status": holds.status,
                "marketing_stopped": holds.is_marketing_stopped,
                "source": "provider",
                "at": now,
            }
            drafts.append(
                describe.conversation_event("consent.changed", state, people[state.contact_id], now, consent=consent)
            )
    return drafts
