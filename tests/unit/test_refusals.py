"""What still refuses, of all that was said of one address, holds for another of the same customer (rule E5)."""

from datetime import UTC, datetime

import pytest

from hub.domain.consent import ConsentEvent, Kind, fold, refusals

AT = datetime(2027, 1, 1, tzinfo=UTC)
Said = tuple[Kind, int | None]


def events(*said: Said) -> list[ConsentEvent]:
    return [ConsentEvent(kind, number, "customer", AT) for kind, number in said]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ((), ()),
        ((("granted", None), ("pending", 1)), ()),
        ((("stop", 1),), (("stop", 1),)),
        ((("granted", None), ("stop", 1)), (("stop", 1),)),
        ((("stop", 1), ("start", 1)), (("stop", 1), ("start", 1))),
        ((("stop", 1), ("start", 1), ("stop", 1)), (("stop", 1),)),
        ((("revoked", 1),), (("revoked", 1),)),
        ((("revoked", None), ("marketing_stop", 2)), (("revoked", None), ("marketing_stop", 2))),
        ((("marketing_stop", 1), ("marketing_resume", 1)), ()),
        ((("marketing_stop", None), ("marketing_resume", 1)), (("marketing_stop", None), ("marketing_resume", 1))),
        ((("replaced", None),), ()),
    ],
)
def test_refusals(said: tuple[Said, ...], kept: tuple[Said, ...]) -> None:
    assert [(event.kind, event.number_id) for event in refusals(events(*said))] == list(kept)


def test_the_operators_evidence_has_lifted_it_for_good() -> None:
    lifted = ConsentEvent("granted", None, "operator", AT, has_evidence=True)
    assert refusals([*events(("stop", 1), ("revoked", None)), lifted]) == []


def test_what_holds_there_is_refused_where_it_was_and_nowhere_granted() -> None:
    said = events(("granted", None), ("stop", 1), ("start", 2), ("revoked", 3), ("marketing_stop", 1))
    there = refusals(said)
    for number in (None, 1, 2, 3):
        here, then = fold(said, number), fold(there, number)
        assert (then.is_revoked, then.is_marketing_stopped) == (here.is_revoked, here.is_marketing_stopped)
        assert not then.is_granted
