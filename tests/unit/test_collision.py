"""Who gets in whose way (rules D2, D3)."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from hub.domain.collision import RECENT, Agent, Collision, Newer, Trace, find_newer, find_others

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HELPDESK, CRM = UUID(int=1), UUID(int=2)
ANA, BEN, ANA_OF_CRM = Agent(HELPDESK, "ana"), Agent(HELPDESK, "ben"), Agent(CRM, "ana")
BOT, BOT_OF_CRM = Agent(HELPDESK, None), Agent(CRM, None)
CUSTOMER = Agent(None, None)


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def held(agent: Agent, minutes: float = 1) -> Trace:
    return Trace(agent, ago(minutes))


said = held

OTHERS = [
    ("nobody is there", ANA, [], [], []),
    ("one's own pick-up and reply", ANA, [held(ANA)], [said(ANA)], []),
    ("known by another name now", ANA, [held(Agent(HELPDESK, "ana", "Helpdesk", "Ana B."))], [], []),
    ("a colleague holds it", ANA, [held(BEN)], [], [("picked_up", BEN, 1)]),
    ("an agent of another service, of the same id", ANA, [held(ANA_OF_CRM)], [], [("picked_up", ANA_OF_CRM, 1)]),
    ("a colleague replied", ANA, [], [said(BEN, 3)], [("replied_recently", BEN, 3)]),
    ("almost 15 minutes ago", ANA, [], [said(BEN, 14.99)], [("replied_recently", BEN, 14.99)]),
    ("15 minutes ago", ANA, [], [said(BEN, 15)], []),
    ("held for hours, replied just now: one warning", ANA, [held(BEN, 200)], [said(BEN)], [("picked_up", BEN, 200)]),
    ("their last reply counts", ANA, [], [said(BEN, 9), said(BEN, 2), said(BEN, 5)], [("replied_recently", BEN, 2)]),
    (
        "two others",
        ANA,
        [held(ANA), held(ANA_OF_CRM, 4)],
        [said(BEN, 2), said(ANA, 1)],
        [("picked_up", ANA_OF_CRM, 4), ("replied_recently", BEN, 2)],
    ),
    ("a bot writes while an agent of its own service is there", BOT, [held(ANA)], [], [("picked_up", ANA, 1)]),
]


@pytest.mark.parametrize(("me", "holders", "replies", "wanted"), [c[1:] for c in OTHERS], ids=[c[0] for c in OTHERS])
def test_d2_every_other_agent_is_warned_of_once(
    me: Agent, holders: list[Trace], replies: list[Trace], wanted: list[tuple[str, Agent, float]]
) -> None:
    found = find_others(me, holders, replies, NOW)
    assert [(c.code, c.agent, c.since) for c in found] == [(code, agent, ago(m)) for code, agent, m in wanted]


def test_d2_the_bounds_are_those_of_the_rule() -> None:
    assert timedelta(minutes=15) == RECENT
    assert find_others(ANA, [held(BEN)], [], NOW) == [Collision("picked_up", BEN, ago(1))]


def wrote(agent: Agent, count: int, minutes: float, sequence: int) -> Newer:
    return Newer(agent, count, ago(minutes), sequence)


NEWER = [
    ("nothing came", ANA, [], None),
    ("only one's own", ANA, [wrote(ANA, 3, 5, 12)], None),
    ("the customer wrote", ANA, [wrote(CUSTOMER, 2, 5, 11)], (CUSTOMER, 2, 5, 11)),
    ("a colleague wrote", ANA, [wrote(BEN, 1, 2, 9)], (BEN, 1, 2, 9)),
    ("one's own bot wrote", ANA, [wrote(BOT, 1, 2, 9)], (BOT, 1, 2, 9)),
    ("a bot does not wonder at itself", BOT, [wrote(BOT, 1, 2, 9)], None),
    ("another service's bot", BOT, [wrote(BOT_OF_CRM, 1, 2, 9)], (BOT_OF_CRM, 1, 2, 9)),
    (
        "all others together; the last one is named",
        ANA,
        [wrote(CUSTOMER, 2, 9, 14), wrote(ANA, 5, 20, 20), wrote(ANA_OF_CRM, 3, 4, 17)],
        (ANA_OF_CRM, 5, 9, 17),
    ),
]


@pytest.mark.parametrize(("me", "groups", "wanted"), [c[1:] for c in NEWER], ids=[c[0] for c in NEWER])
def test_d3_what_others_wrote_meanwhile(
    me: Agent, groups: list[Newer], wanted: tuple[Agent, int, float, int] | None
) -> None:
    assert find_newer(me, groups) == (wanted and wrote(*wanted))
