"""How long things took, out of counts within bounds."""

import pytest

from hub.domain.latency import BOUNDS, PLACES, percentile


def counts(**at: int) -> list[int]:
    return [at.get(f"p{place}", 0) for place in range(PLACES)]


@pytest.mark.parametrize(
    ("given", "share", "seconds"),
    [
        (counts(), 0.5, None),
        (counts(p0=1), 0.5, 0.01),
        (counts(p0=10), 0.95, 0.019),
        (counts(p5=100), 0.5, 0.75),
        (counts(p0=94, p8=6), 0.5, 0.0106),
        (counts(p0=90, p8=10), 0.95, 7.5),
        (counts(p3=1, p4=1), 0.5, 0.25),
        (counts(p13=1), 0.5, BOUNDS[-1]),
        (counts(p0=1, p13=99), 0.95, BOUNDS[-1]),
    ],
)
def test_a_share_of_all_was_done_within(given: list[int], share: float, seconds: float | None) -> None:
    found = percentile(given, share)
    assert found == (None if seconds is None else pytest.approx(seconds, rel=0.01))


def test_bounds_rise_and_shares_never_fall() -> None:
    assert list(BOUNDS) == sorted(set(BOUNDS))
    spread = [3, 0, 7, 1, 0, 2, 9, 1, 1, 0, 0, 4, 1, 2]
    found = [percentile(spread, share / 100) or 0 for share in range(1, 101)]
    assert found == sorted(found)
