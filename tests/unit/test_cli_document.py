"""docs/cli.md tells of every command, option and code that there is, and of none else."""

import re
from pathlib import Path

import click
import pytest

from hub.__main__ import main
from hub.commands import running

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "cli.md").read_text()
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL))
COMMANDS = {name: command for name, command in main.commands.items() if not command.hidden}


def options(command: click.Command) -> set[str]:
    """The options of a command, by their long names."""
    given = (each for each in command.params if isinstance(each, click.Option))
    return {max(each.opts, key=len) for each in given}


def test_every_command_has_its_section_and_its_row() -> None:
    rows = set(re.findall(r"^\| \[`(\w+)`\]\(#(?:\w+)\) \|", DOCUMENT, re.MULTILINE))
    assert rows == set(COMMANDS) == set(SECTIONS) - {"What"}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_options_are_those_of_the_document(name: str) -> None:
    table = "\n".join(re.findall(r"^\| (`-.*?) \| ", SECTIONS[name], re.MULTILINE))
    assert set(re.findall(r"(--[a-z][a-z-]*)", table)) == options(COMMANDS[name])
    assert f"$ partyline {name}" in SECTIONS[name], "an example"
    assert COMMANDS[name].help


def test_exit_codes() -> None:
    listed = set(map(int, re.findall(r"^\| (\d+) \| ", DOCUMENT, re.MULTILINE)))
    ours = {running.DONE, running.WRONG, running.UNREACHED, running.INTERRUPTED}
    assert listed == ours | {2, 70}
    assert set(map(int, re.findall(r"\b(\d+) [a-z]", main.epilog or ""))) == listed


def listed_codes(section: str) -> set[str]:
    """The codes in the first column of a section's tables."""
    rows = re.findall(r"^\| (`[a-z0-9_` ]+`) \|", SECTIONS[section], re.MULTILINE)
    return set(re.findall(r"`([a-z0-9_]+)`", " ".join(rows)))


def test_codes_of_verify() -> None:
    text = "".join(file.read_text() for file in (ROOT / "hub" / "commands").glob("*.py"))
    assert listed_codes("verify") == set(re.findall(r'Finding\(\s*"([a-z0-9_]+)"', text))


def test_codes_of_check() -> None:
    text = "".join(file.read_text() for file in (ROOT / "hub").glob("check*.py"))
    made = set(re.findall(r'(?:warn|fail|made)\(\s*"([a-z0-9_]+)"', text)) | LINKS
    listed = listed_codes("check")
    assert made <= listed
    assert all(code.endswith(COMPOSED) or code in OF_OTHERS for code in listed - made), listed - made


COMPOSED = ("_unreachable", "_exposed", "_unreadable", "_absent", "_incomplete", "_invalid", "_all", "_waiting")
"""How codes end that are put together: of a setting, a provider, a spool."""
LINKS = {"link_host_foreign", "collector_foreign"}
OF_OTHERS = {
    "migration_changed", "webhook_elsewhere", "sender_not_registered", "token_revoked", "permission_missing",
    "account_restricted", "fields_missing",
}  # fmt: skip
"""Codes that `check` passes on: of migrations, and of senders' health."""
