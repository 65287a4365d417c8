"""What is left of who is erased: places without words, and refusals without anything else (rule H5)."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.addresses import Address
from hub.domain.consent import ConsentEvent, fold
from hub.domain.erasing import contact_view, erase_answer, erase_event, erase_message, refusals, traces

AT = datetime(2026, 3, 1, tzinfo=UTC)
A, B = 1, 2
NUMBERS = (A, B, None)


def said(*entries: str) -> list[ConsentEvent]:
    """Written as `kind@number source`; `operator!` has evidence."""
    made = []
    for entry in entries:
        kind, _, source = entry.partition(" ")
        kind, _, number = kind.partition("@")
        who: Any = source.rstrip("!") or "customer"
        number_id = {"A": A, "B": B, "": None}[number]
        made.append(ConsentEvent(kind, number_id, who, AT, source.endswith("!")))  # type: ignore[arg-type]
    return made


# What was said, and what of it outlives an erasure.
TABLE = [
    ([], []),
    (["granted service", "pending browser"], []),
    (["revoked service"], [("revoked", None)]),
    (["revoked@A service", "granted@B service"], [("revoked", A)]),
    (["stop@A"], [("stop", None)]),
    (["stop@A", "start@A"], [("stop", None), ("start", A)]),
    (["stop@A", "start@A", "stop@B"], [("stop", None)]),
    (["stop@A", "revoked@B service"], [("stop", None), ("revoked", B)]),
    (["granted service", "stop@A", "granted operator!"], []),
    (["revoked service", "granted@A operator!"], [("revoked", None)]),  # errs on the customer's side
    (["stop@A", "granted@B operator!"], [("stop", None), ("start", B)]),
    (["granted service", "replaced service"], [("replaced", None)]),
    (["replaced service", "granted service"], []),
    (["stop@A", "start@A", "replaced service"], [("stop", None), ("start", A), ("replaced", None)]),
    (["revoked service", "replaced service"], [("revoked", None), ("replaced", None)]),
    (["marketing_stop@A", "granted service"], [("marketing_stop", A)]),
    (["marketing_stop@A", "marketing_resume@A"], []),
]


@pytest.mark.parametrize(("entries", "kept"), TABLE, ids=[" ".join(entries) or "nothing" for entries, _ in TABLE])
def test_h5_what_is_refused_outlives_an_erasure(entries: list[str], kept: list[tuple[str, int | None]]) -> None:
    assert refusals(said(*entries)) == kept


EVENTS = st.builds(
    ConsentEvent,
    st.sampled_from(
        ["granted", "revoked", "stop", "start", "marketing_stop", "marketing_resume", "pending", "replaced"]
    ),
    st.sampled_from(NUMBERS),
    st.sampled_from(["customer", "service", "operator", "provider", "site", "browser"]),
    st.just(AT),
    st.booleans(),
)


@given(st.lists(EVENTS, max_size=10))
def test_h5_whatever_was_refused_is_refused_and_nothing_is_granted(events: list[ConsentEvent]) -> None:
    kept = [ConsentEvent(kind, number, "operator", AT) for kind, number in refusals(events)]
    for number in NUMBERS:
        before, after = fold(events, number), fold(kept, number)
        assert after.is_revoked >= before.is_revoked
        assert after.is_marketing_stopped >= before.is_marketing_stopped
        assert not after.is_granted
        assert not after.is_pending
    again = refusals(kept)
    assert [fold([ConsentEvent(k, n, "operator", AT) for k, n in again], number) for number in NUMBERS] == [
        fold(kept, number) for number in NUMBERS
    ]


MESSAGE = {
    "id": "msg_1", "direction": "inbound", "medium": "sms", "type": "text", "origin": "customer", "sequence": 3,
    "author": None, "agent": None, "provider_id": "wamid.of-a-phone", "text": "§", "raw": {"from": "§"},
    "created_at": "2026-03-01T00:00:00Z", "something_new": "§", "links": ["§"],
}  # fmt: skip
CONTACT = {"id": "con_1", "name": "§", "addresses": [{"type": "phone", "value": "§"}]}
FRAME = {"number": "+15550001111", "channel_id": "chn_1", "conversation": {"id": "cnv_1", "medium": "sms"}}


def test_h5_a_message_keeps_its_place() -> None:
    left = erase_message(MESSAGE)
    assert "§" not in str(left)
    assert "wamid" not in str(left)
    assert left == {
        "id": "msg_1", "direction": "inbound", "medium": "sms", "type": "text", "origin": "customer", "sequence": 3,
        "author": None, "created_at": "2026-03-01T00:00:00Z", "erased": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("data", "left"),
    [
        (FRAME | {"contact": CONTACT, "message": MESSAGE}, {"conversation", "contact", "message"}),
        (
            FRAME | {"contact": CONTACT, "note": "§", "private": [{"to": [], "fields": "§"}]},
            {"conversation", "contact"},
        ),
        ({"number": "+1", "channel_id": "chn_1", "consent": {"address": "§"}}, set()),
        ({"number": "+1", "channel_id": "chn_1", "contact": "§", "message": "§", "visitor": "§"}, set()),
    ],
    ids=["message", "note", "consent", "nonsense"],
)
def test_h5_an_event_keeps_its_frame(data: dict[str, Any], left: set[str]) -> None:
    view = erase_event(data)
    assert "§" not in str(view)
    assert set(view) == left | {"number", "channel_id", "erased"}
    assert view["erased"] is True
    assert view.get("contact", {"erased": True})["erased"] is True
    assert erase_event(view) == view


@pytest.mark.parametrize("answer", [{"message": MESSAGE, "warnings": ["§"]}, {"contact": CONTACT}, ["§"], "§", None])
def test_h5_an_answer_that_is_repeated_says_nothing(answer: Any) -> None:
    view = erase_answer(answer)
    assert "§" not in str(view)
    assert view["erased"] is True


def test_h5_addresses_are_looked_for_as_others_spell_them() -> None:
    found = traces(
        [
            Address("phone", "+5511912345678"),
            Address("user_id", "BR.1"),
            Address("email", "a+b@x.example"),
            Address("username", "mia"),
        ]
    )
    assert found == ["551112345678", "5511912345678", "BR.1", "a%2Bb%40x.example", "a+b@x.example"]


def test_h5_an_erased_contact_has_an_id_and_nothing_else() -> None:
    assert contact_view(UUID(int=1)) == {"id": f"con_{1:032x}", "name": None, "addresses": [], "erased": True}
