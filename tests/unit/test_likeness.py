"""What speaks for and against two contacts being one person."""

import pytest

from hub.domain.likeness import Known, weigh

PHONE, OTHER, MAIL = ("phone", "+4915112345678"), ("phone", "+4915187654321"), ("email", "mia@example.com")
MIA = Known("Mia Keller", {PHONE: "proved"})


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Known(None, {}), [(True, "Only one of them has a phone number")]),
        (Known(None, {PHONE: "unconfirmed"}), [(True, "Both have +4915112345678: proved here, unconfirmed there")]),
        (Known(None, {OTHER: "proved"}), [(False, "Each has a phone number of its own")]),
        (
            Known("mia keller", {MAIL: "declared"}),
            [
                (True, "Only one of them has a phone number"),
                (True, "Only one of them has an e-mail address"),
                (True, "Both are called"),
            ],
        ),
        (Known("Keller, M.", {PHONE: "proved"}), [(True, "Both have"), (True, "Their names are alike")]),
        (Known("Bob", {PHONE: "proved"}), [(True, "Both have"), (False, "Their names differ")]),
        (Known(None, {PHONE: "proved"}, frozenset({"v"})), [(True, "Both have")]),
    ],
)  # fmt: skip
def test_what_is_known_of_two_is_weighed(other: Known, said: list[tuple[bool, str]]) -> None:
    points = weigh(MIA, other)
    assert len(points) == len(said), points
    for point, (is_for, text) in zip(points, said, strict=True):
        assert point.is_for == is_for
        assert point.text.startswith(text)
        assert not point.is_bar


def test_one_browser_of_both_speaks_for_it() -> None:
    one, other = (Known(None, {}, frozenset({"a", name})) for name in ("b", "c"))
    assert [(point.is_for, point.text.split(" ")[0]) for point in weigh(one, other)] == [(True, "One")]


@pytest.mark.parametrize(
    ("mine", "theirs", "is_bar"), [(True, True, True), (True, False, False), (False, False, False)]
)
def test_two_customers_that_a_service_has_verified_are_two(mine: bool, theirs: bool, is_bar: bool) -> None:
    one = Known(None, {}, identities={("CRM", "1"): mine})
    (point,) = weigh(one, Known(None, {}, identities={("CRM", "2"): theirs}))
    assert (point.is_for, point.is_bar) == (False, is_bar)
