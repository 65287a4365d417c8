"""Which services share a number's channel: rules as data, judged when a service connects (rule A3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_FIELDS: Final[Mapping[str, type]] = {"plan": str, "product": str, "upgraded_from_standalone": bool}


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the configured list: `wanted` maps a field of the service to the values that match."""

    wanted: Mapping[str, Sequence[object]]
    shares: bool

    def matches(self, service: Mapping[str, object]) -> bool:
        """Whether every field this rule names has one of its values."""
        return all(service.get(field) in values for field, values in self.wanted.items())


def read_rules(document: Mapping[str, Any]) -> list[Rule]:
    """Turn the configured document into rules. Raises ValueError naming what is wrong."""
    rules = document.get("rule")
    if not isinstance(rules, list) or set(document) != {"rule"}:
        raise ValueError("the eligibility file holds a list of [[rule]] and nothing else")
    return [_read_rule(index, entry) for index, entry in enumerate(rules, 1)]


def _read_rule(index: int, entry: Any) -> Rule:
    if not isinstance(entry, Mapping):
        raise ValueError(f"rule {index}: must be a table of fields and shares")
    wanted = {name: value if isinstance(value, list) else [value] for name, value in entry.items() if name != "shares"}
    unknown = wanted.keys() - _FIELDS.keys()
    if unknown:
        raise ValueError(f"rule {index}: unknown field {', '.join(sorted(unknown))}; known are {', '.join(_FIELDS)}")
    for name, values in wanted.items():
        if not all(isinstance(value, _FIELDS[name]) for value in values):
            raise ValueError(f"rule {index}: {name} must be of type {_FIELDS[name].__name__}, or a list of it")
    if not isinstance(entry.get("shares"), bool):
        raise ValueError(f"rule {index}: shares must be true or false")
    return Rule(wanted, entry["shares"])


def is_eligible(rules: Sequence[Rule], *, plan: str, product: str | None, upgraded_from_standalone: bool) -> bool:
    """Whether this service joins the shared channel. The first rule that matches decides; none: it does not."""
    service = {"plan": plan, "product": product, "upgraded_from_standalone": upgraded_from_standalone}
    return next((rule.shares for rule in rules if rule.matches(service)), False)
