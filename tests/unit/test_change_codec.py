"""Changes of identity as JSON: what is written into the ledger is what is read back."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from hub.domain.addresses import Address
from hub.domain.bindings import Bind, Binding, Trust
from hub.domain.change_codec import Written, decode, encode, thing_key
from hub.domain.identity import Change, Fill
from hub.domain.merging import Merge, touched
from hub.domain.profiles import Slot, Standing

ids = st.uuids()
times = st.datetimes(timezones=st.just(UTC))
addresses = st.builds(Address, st.sampled_from(["email", "phone"]), st.text(max_size=40))
slots = st.builds(Slot, ids, addresses, st.sampled_from(Standing))
st.register_type_strategy(datetime, times)
st.register_type_strategy(Address, addresses)
st.register_type_strategy(Slot, slots)
changes = st.sampled_from([*get_args(Change), Merge]).flatmap(st.from_type)
wrote = st.lists(st.one_of(st.integers(0, 2**62), st.text(max_size=32)), max_size=3).map(tuple)


@given(st.lists(st.builds(Written, changes, wrote), max_size=6))
def test_what_is_written_is_read_back(written: list[Written]) -> None:
    assert decode(encode(written)) == written


def test_as_it_stands_in_the_ledger() -> None:
    contact, visitor, at = UUID(int=1), UUID(int=2), datetime(2026, 3, 1, tzinfo=UTC)
    fill = Fill(contact, Address("phone", "+4915111111111"), Standing.DECLARED, "I1")
    bind = Bind(visitor, contact, at, None, Trust.CLICK, at + timedelta(seconds=1), "bound")
    first, second = json.loads(encode([Written(fill, (7,)), Written(bind, ("ab",))]))
    assert first == {
        "type": "Fill", "contact_id": contact.hex, "address": {"type": "phone", "value": "+4915111111111"},
        "standing": 1, "reason": "I1", "wrote": [7],
    }  # fmt: skip
    assert (second["type"], second["start"], second["until"], second["trust"], second["destination"]) == (
        "Bind", "2026-03-01T00:00:00+00:00", None, 1, None,
    )  # fmt: skip


def test_things_are_named_without_showing_an_address() -> None:
    contact, phone = UUID(int=1), Address("phone", "+5511961234567")
    twin = Address("phone", "+551161234567")
    keys = [
        {thing_key(thing) for thing in touched(Fill(contact, a, Standing.DECLARED, "I1"))[0]} for a in (phone, twin)
    ]
    assert keys[0] == keys[1], "two spellings of one number"
    assert f"slot:{contact.hex}:phone" in keys[0]
    assert not any("61234567" in key for key in keys[0])
    binding = Binding(UUID(int=3), UUID(int=2), contact, datetime.now(UTC), None, Trust.CLICK, datetime.now(UTC))
    things: Any = touched(Bind(binding.visitor_id, contact, binding.start, None, Trust.CLICK, binding.start, "bound"))
    assert [sorted(map(thing_key, part)) for part in things] == [
        [f"visitor:{UUID(int=2).hex}"],
        [f"contact:{contact.hex}"],
    ]
