"""Which services share a number's channel: rules as data (rule A3)."""

import tomllib
from typing import Any

import pytest

from config.settings import DEFAULT_ELIGIBILITY_FILE
from hub.domain.eligibility import Rule, is_eligible, read_rules


def rules(text: str) -> list[Rule]:
    return read_rules(tomllib.loads(text))


def shares(made: list[Rule], plan: str, product: str | None = None, *, upgraded: bool = False) -> bool:
    return is_eligible(made, plan=plan, product=product, upgraded_from_standalone=upgraded)


@pytest.mark.parametrize(
    ("plan", "upgraded", "answer"),
    [
        ("bundle", False, True),
        ("bundle", True, False),
        ("standalone", False, False),
        ("standalone", True, False),
        ("enterprise", False, False),
        ("Bundle", False, False),
        ("", False, False),
    ],
)
@pytest.mark.parametrize("product", [None, "helpdesk"])
def test_a3_the_shipped_file(plan: str, upgraded: bool, answer: bool, product: str | None) -> None:
    assert shares(rules(DEFAULT_ELIGIBILITY_FILE.read_text()), plan, product, upgraded=upgraded) is answer


def test_a3_the_shipped_file_has_a_place_for_excluded_products() -> None:
    text = DEFAULT_ELIGIBILITY_FILE.read_text()
    assert "product = []" in text
    made = rules(text.replace("product = []", 'product = ["archive", "survey"]'))
    assert not shares(made, "bundle", "archive")
    assert not shares(made, "bundle", "survey")
    assert shares(made, "bundle", "helpdesk")
    assert shares(made, "bundle", None)


def test_a3_an_exclusion_stands_before_the_plan_and_an_upgrade_before_both() -> None:
    made = rules(DEFAULT_ELIGIBILITY_FILE.read_text().replace("product = []", 'product = "archive"'))
    assert [(set(rule.wanted), rule.shares) for rule in made] == [
        ({"upgraded_from_standalone"}, False),
        ({"product"}, False),
        ({"plan"}, True),
        ({"plan"}, False),
    ]
    assert not shares(made, "bundle", "archive")
    assert not shares(made, "bundle", "helpdesk", upgraded=True)
    assert shares(made, "bundle", "helpdesk")


def test_a3_the_first_rule_that_matches_decides() -> None:
    made = rules('[[rule]]\nplan = "a"\nproduct = "x"\nshares = false\n[[rule]]\nplan = ["a", "b"]\nshares = true\n')
    assert not shares(made, "a", "x")
    assert shares(made, "a", "y")
    assert shares(made, "b", "x")
    assert not shares(made, "c")


def test_a3_a_rule_without_fields_is_for_everybody() -> None:
    assert shares(rules("[[rule]]\nshares = true\n"), "anything", "any", upgraded=True)


def test_a3_without_a_rule_nobody_shares() -> None:
    assert not shares(read_rules({"rule": []}), "bundle")


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({}, "rule"),
        ({"rules": []}, "rule"),
        ({"rule": {}}, "rule"),
        ({"rule": [], "default": True}, "nothing else"),
        ({"rule": ["bundle"]}, "rule 1"),
        ({"rule": [{"plan": "a"}]}, "rule 1: shares"),
        ({"rule": [{"shares": True}, {"plan": "a", "shares": "yes"}]}, "rule 2: shares"),
        ({"rule": [{"plan": "a", "shares": 1}]}, "rule 1: shares"),
        ({"rule": [{"plann": "a", "shares": True}]}, "plann"),
        ({"rule": [{"plan": 7, "shares": True}]}, "rule 1: plan"),
        ({"rule": [{"product": ["x", 7], "shares": True}]}, "rule 1: product"),
        ({"rule": [{"upgraded_from_standalone": "true", "shares": False}]}, "rule 1: upgraded_from_standalone"),
        ({"rule": [{"upgraded_from_standalone": 1, "shares": False}]}, "rule 1: upgraded_from_standalone"),
    ],
)
def test_a3_a_file_with_a_fault_is_refused_with_a_sentence(document: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_rules(document)
