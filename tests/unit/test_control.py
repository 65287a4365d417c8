"""Who holds a conversation, by news that come in any order."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from hub.domain.control import Control, Holder, heard
from hub.domain.masking import automation
from hub.domain.policy import AUTOMATION, must_wait, takes_control

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OURS = Control()
EARLY, LATE = NOW - timedelta(minutes=2), NOW - timedelta(minutes=1)
THEIRS = Control("external", EARLY, EARLY)


@pytest.mark.parametrize(
    ("before", "holder", "at", "after"),
    [
        pytest.param(OURS, "external", EARLY, THEIRS, id="handed over"),
        pytest.param(OURS, "hub", EARLY, Control(at=EARLY), id="ours all along"),
        pytest.param(THEIRS, "hub", LATE, Control(at=LATE), id="given back"),
        pytest.param(THEIRS, "external", LATE, Control("external", EARLY, LATE), id="theirs still, since then"),
        pytest.param(THEIRS, "hub", EARLY, Control(at=EARLY), id="within a second, the last to come holds"),
        pytest.param(Control(at=EARLY), "external", EARLY, THEIRS, id="within a second, the other way"),
        pytest.param(Control(at=LATE), "external", EARLY, Control(at=LATE), id="older news of a handover"),
        pytest.param(
            Control("external", LATE, LATE), "hub", EARLY, Control("external", LATE, LATE), id="older news of a return"
        ),
        pytest.param(OURS, "external", None, Control("external", NOW, NOW), id="no time is now"),
        pytest.param(THEIRS, "hub", None, Control(at=NOW), id="no time is now, given back"),
        pytest.param(OURS, "external", NOW + timedelta(days=1), Control("external", NOW, NOW), id="from the future"),
    ],
)
def test_the_later_news_win(before: Control, holder: Holder, at: datetime | None, after: Control) -> None:
    assert heard(before, holder, at, NOW) == after


@pytest.mark.parametrize(("at", "held_by"), [(EARLY, "external"), (LATE, None), (None, None)], ids=range(3))
def test_a_mere_message_gives_it_back_only_if_it_was_written_later(at: datetime | None, held_by: str | None) -> None:
    assert heard(THEIRS, "hub", at, NOW, is_inferred=True).held_by == held_by


def test_every_order_of_the_same_news_ends_with_the_same_holder() -> None:
    news: list[tuple[Holder, datetime]] = [
        ("external", NOW - timedelta(seconds=40)),
        ("hub", NOW - timedelta(seconds=30)),
        ("external", NOW - timedelta(seconds=20)),
        ("external", NOW - timedelta(seconds=10)),
    ]
    for order in permutations(news):
        state = OURS
        for holder, at in order:
            state = heard(state, holder, at, NOW)
        assert (state.held_by, state.at) == ("external", news[-1][1])


@pytest.mark.parametrize("origin", sorted(AUTOMATION | {"agent"}))
def test_automation_waits_and_a_person_takes_control(origin: str) -> None:
    is_person = origin == "agent"
    assert must_wait(origin, "external") is not is_person
    assert must_wait(origin, None) is False
    assert takes_control(origin, "text") is is_person
    assert takes_control(origin, "template") is False


@pytest.mark.parametrize(
    ("held_by", "kind", "origin", "is_allowed"),
    [
        ("external", "text", "external", False),
        ("external", "text", "customer", False),
        ("external", "handover", "external", False),
        (None, "handover", "external", True),
        (None, "text", "external", False),
        (None, "text", "customer", True),
    ],
)
def test_bots_are_told_that_they_may_not_speak_now(
    held_by: str | None, kind: str, origin: str, is_allowed: bool
) -> None:
    data = {"conversation": {"held_by": held_by}, "message": {"type": kind, "origin": origin}}
    assert automation(data, may_automate=True, epoch=1)["allowed"] is is_allowed
    assert automation(data, may_automate=False, epoch=1)["allowed"] is False
