"""A machine without Chromium: people's tests are skipped with a reason, CI's fail; root on Debian gets one."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.browser import chromium

INSTALL = Path(__file__).with_name("install")


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path with a shell on it and little else."""
    for name in ("sh", "id"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("PARTYLINE_TEST_CHROMIUM", raising=False)
    monkeypatch.delenv("CI", raising=False)
    return tmp_path


def command(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def install() -> tuple[int, str]:
    done = subprocess.run([str(INSTALL)], capture_output=True, text=True, timeout=10)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.usefixtures("bare")
def test_without_chromium(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chromium.find_chromium() is None
    with pytest.raises(pytest.skip.Exception, match="apt-get install chromium"):
        chromium.require_chromium()
    code, said = install()
    assert code == 0
    assert "PARTYLINE_TEST_CHROMIUM" in said
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt-get install chromium"):
        chromium.require_chromium()
    assert install()[0] == 1


def test_with_chromium(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(bare, "google-chrome", "exit 0")
    assert chromium.require_chromium() == str(bare / "google-chrome")
    assert install() == (0, "")
    command(bare, "mine", "exit 0")
    monkeypatch.setenv("PARTYLINE_TEST_CHROMIUM", str(bare / "mine"))
    assert chromium.require_chromium() == str(bare / "mine")
    (bare / "google-chrome").unlink()
    assert install() == (0, "")


@pytest.mark.parametrize(
    ("user", "works", "code"), [("0", "true", 0), ("0", "false", 1), ("1000", "true", 1)], ids=["root", "fails", "user"]
)
def test_root_gets_debians(bare: Path, monkeypatch: pytest.MonkeyPatch, user: str, works: str, code: int) -> None:
    monkeypatch.setenv("CI", "true")
    (bare / "id").unlink()
    command(bare, "id", f"echo {user}")
    command(bare, "apt-get", f'echo "$@" >> {bare}/asked; {works}')
    assert install()[0] == code
    asked = (bare / "asked").read_text() if (bare / "asked").exists() else ""
    assert ("install" in asked and "chromium" in asked) is (user == "0" and works == "true")
