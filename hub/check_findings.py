"""What a check found, and how it is shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from rich.markup import escape
from rich.table import Table

from hub.printing import console, print_json

Level = Literal["ok", "warn", "fail"]
_MARKS: Final = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[red]fail[/]"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, and the cure where there is something to cure; `code` is stable, `name` for people."""

    code: str
    name: str
    level: Level
    found: str
    cure: str = ""


def ok(code: str, name: str, found: str, cure: str = "") -> Finding:
    """Nothing is wrong here."""
    return Finding(code, name, "ok", found, cure)


def warn(code: str, name: str, found: str, cure: str) -> Finding:
    """The hub runs, but something will not be as it should."""
    return Finding(code, name, "warn", found, cure)


def fail(code: str, name: str, found: str, cure: str) -> Finding:
    """The hub cannot do its work like this."""
    return Finding(code, name, "fail", found, cure)


def show(findings: Sequence[Finding], *, as_json: bool) -> None:
    """Print them: as a table, or a JSON document each."""
    if as_json:
        for each in findings:
            print_json(
                {"code": each.code, "check": each.name, "level": each.level, "found": each.found, "cure": each.cure}
            )
        return
    table = Table("check", "", "found", "what to do")
    for each in findings:
        table.add_row(each.name, _MARKS[each.level], escape(each.found), escape(each.cure))
    console().print(table)
