"""Settings come from the environment or a file, and the example file names them all.

`python -m tests.unit.test_settings` writes `config/example.env` anew.
"""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

import config.settings
from config.settings import DEFAULT_ELIGIBILITY_FILE, ROLES, Settings

EXAMPLE = Path(config.settings.__file__).with_name("example.env")
HEAD = """\
# Every setting of the hub: what it does, and its default. Copy this file, change what you need, and name the copy in
# PARTYLINE_ENV_FILE; or set the same names in the environment, which goes before the file.
"""

FIXED = {
    "HOST", "PORT", "PUBLIC_URL", "DATABASE_URL", "DATA_DIR", "ADMIN_KEY", "SECRET_KEYS", "ROLES", "PROCESSES",
    "LOG_LEVEL",
    "LOG_FORMAT", "META_APP_SECRETS", "META_VERIFY_TOKEN", "META_ACCESS_TOKEN", "META_API_URL", "TWILIO_ACCOUNT_SID",
    "TWILIO_AUTH_TOKEN", "TWILIO_API_URL", "ALLOW_PRIVATE_ENDPOINTS",
}  # fmt: skip
"""Names that the API contract fixes and this version has."""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("PARTYLINE_")]:
        monkeypatch.delenv(name)


def written(value: Any) -> str | None:
    """A default as the environment would spell it; None where there is none, or where it depends on the machine."""
    if value is None or value == () or value == DEFAULT_ELIGIBILITY_FILE:
        return None
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def example() -> str:
    """The example file that belongs to these settings."""
    parts = [HEAD]
    for name, setting in Settings.model_fields.items():
        value = written(setting.default)
        line = f"PARTYLINE_{name.upper()}={value or ''}"
        parts.append(f"\n# {setting.description}\n{line if value is not None else '#' + line}\n")
    return "".join(parts)


def test_every_setting_says_what_it_is_for() -> None:
    for name, setting in Settings.model_fields.items():
        assert setting.description, name
        assert "\n" not in setting.description


def test_the_example_file_is_up_to_date() -> None:
    """If this fails: `python -m tests.unit.test_settings`."""
    assert EXAMPLE.read_text() == example()


def test_the_example_file_names_every_setting_and_nothing_else() -> None:
    named = re.findall(r"^#?PARTYLINE_([A-Z0-9_]+)=", EXAMPLE.read_text(), re.MULTILINE)
    assert named == [name.upper() for name in Settings.model_fields]


def test_the_example_file_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTYLINE_ENV_FILE", str(EXAMPLE))
    assert Settings() == Settings.model_construct()


def test_a_copy_with_all_lines_open_says_what_is_blank_as_if_it_were_not_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copy = tmp_path / "hub.env"
    copy.write_text(EXAMPLE.read_text().replace("#PARTYLINE_", "PARTYLINE_"))
    monkeypatch.setenv("PARTYLINE_ENV_FILE", str(copy))
    assert Settings() == Settings.model_construct()


def test_the_names_that_the_contract_fixes_are_there() -> None:
    assert {name.upper() for name in Settings.model_fields} >= FIXED


def test_the_environment_goes_before_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "hub.env"
    file.write_text("PARTYLINE_PORT=1111\nPARTYLINE_HOST=0.0.0.0\nPARTYLINE_ROLES=gateway, sender\n")
    monkeypatch.setenv("PARTYLINE_ENV_FILE", str(file))
    monkeypatch.setenv("PARTYLINE_PORT", "2222")
    made = Settings()
    assert (made.port, made.host, made.roles) == (2222, "0.0.0.0", ("gateway", "sender"))


def test_a_file_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PARTYLINE_ENV_FILE", str(tmp_path / "missing.env"))
    with pytest.raises(ValueError, match=r"missing\.env"):
        Settings()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("META_APP_SECRETS", "new, old,", ("new", "old")),
        ("TWILIO_AUTH_TOKEN", "one", ("one",)),
        ("SECRET_KEYS", "", ()),
    ],
)
def test_lists_of_secrets(monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: tuple[str, ...]) -> None:
    monkeypatch.setenv(f"PARTYLINE_{name}", text)
    made = getattr(Settings(), name.lower())
    assert tuple(secret.get_secret_value() for secret in made) == value


SECRETS = ["DATABASE_URL", "ADMIN_KEY", "SECRET_KEYS", "META_APP_SECRETS", "META_VERIFY_TOKEN", "META_ACCESS_TOKEN",
           "TWILIO_AUTH_TOKEN"]  # fmt: skip


@pytest.mark.parametrize("name", SECRETS)
def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"PARTYLINE_{name}", "vErYpRiVaTe")
    made = Settings()
    assert "vErYpRiVaTe" not in repr(made) + str(made) + made.model_dump_json()


@pytest.mark.parametrize("name", ["DATABASE_URL", "ADMIN_KEY", "META_VERIFY_TOKEN", "META_ACCESS_TOKEN",
                                  "TWILIO_ACCOUNT_SID", "META_API_URL", "TWILIO_API_URL"])  # fmt: skip
def test_an_empty_value_is_none(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"PARTYLINE_{name}", "")
    assert getattr(Settings(), name.lower()) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PORT", "99999"),
        ("PORT", "http"),
        ("PROCESSES", "0"),
        ("ROLES", "gateway,cook"),
        ("ROLES", ","),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("PUBLIC_URL", "hub.example.com"),
        ("META_API_URL", "graph"),
        ("SEND_CONCURRENCY", "0"),
        ("DELIVERY_TIMEOUT", "0"),
        ("INBOUND_KEY_DAYS", "29"),
    ],
)
def test_what_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(f"PARTYLINE_{name}", text)
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert [fault["loc"] for fault in caught.value.errors()] == [(name.lower(),)]


def test_all_faults_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("PORT", "x"), ("ROLES", "cook"), ("LOG_LEVEL", "loud")):
        monkeypatch.setenv(f"PARTYLINE_{name}", text)
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert caught.value.error_count() == 3


def test_a_url_loses_its_last_slash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTYLINE_PUBLIC_URL", "https://hub.example.com/base/")
    assert Settings().public_url == "https://hub.example.com/base"


def test_settings_stay_as_they_are() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]


def test_all_roles_are_on_by_default_and_secrets_are_secret_strings() -> None:
    assert Settings().roles == ROLES
    assert isinstance(Settings(admin_key=SecretStr("x")).admin_key, SecretStr)


if __name__ == "__main__":
    EXAMPLE.write_text(example())
