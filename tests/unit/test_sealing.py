"""Secrets at rest (rule H3)."""

import base64
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.store.sealing import KeyProblem, Sealer, hash_api_key, kept_key, new_api_key, new_secret_key

OLD, NEW, FOREIGN = (base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2, 3))


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_h3_what_is_sealed_is_opened(text: str) -> None:
    sealer = Sealer([NEW])
    assert sealer.open(sealer.seal(text)) == text


def test_h3_sealed_bytes_hold_nothing_of_the_secret_and_differ_each_time() -> None:
    sealer = Sealer([NEW])
    one, other = sealer.seal("whsec_plain"), sealer.seal("whsec_plain")
    assert one != other
    assert b"whsec" not in one + other
    assert base64.b64decode(NEW) not in one


def test_h3_the_first_key_encrypts_and_all_decrypt() -> None:
    before = Sealer([OLD]).seal("x")
    rotated = Sealer([NEW, OLD])
    assert rotated.open(before) == "x"
    assert Sealer([NEW]).open(rotated.seal("y")) == "y"
    with pytest.raises(KeyProblem):
        Sealer([OLD]).open(rotated.seal("y"))


@pytest.mark.parametrize("keys", [[FOREIGN], [FOREIGN, NEW]])
def test_h3_no_other_key_opens_it(keys: list[str]) -> None:
    with pytest.raises(KeyProblem, match="SECRET_KEYS"):
        Sealer(keys).open(Sealer([OLD]).seal("x"))


def test_h3_changed_or_broken_bytes_are_not_opened() -> None:
    sealer = Sealer([NEW])
    sealed = sealer.seal("secret")
    for place in range(len(sealed)):
        broken = bytes(b ^ (i == place) for i, b in enumerate(sealed))
        with pytest.raises(KeyProblem):
            sealer.open(broken)
    for length in (0, 5, 12, 20, len(sealed) - 1):
        with pytest.raises(KeyProblem):
            sealer.open(sealed[:length])


@pytest.mark.parametrize("key", ["", "not base64!", "c2hvcnQ=", base64.b64encode(b"x" * 33).decode(), "ключ"])
def test_h3_a_key_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(KeyProblem) as caught:
        Sealer([key])
    assert not key or key not in str(caught.value)


def test_h3_there_must_be_a_key() -> None:
    with pytest.raises(KeyProblem):
        Sealer([])


def test_h3_generated_keys() -> None:
    assert len(base64.b64decode(new_secret_key())) == 32
    assert new_secret_key() != new_secret_key()
    key = new_api_key()
    assert key.startswith("plk_")
    assert len(key) >= 4 + 43
    assert hash_api_key(key) != hash_api_key(key[:-1])
    assert key.encode() not in hash_api_key(key)


def test_h3_a_kept_key_is_private_and_stays(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    assert kept_key(folder, "admin_key", "first") == "first"
    assert kept_key(folder, "admin_key", "second") == "first"
    assert (folder / "admin_key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in folder.iterdir()] == ["admin_key"]


def test_h3_processes_that_start_together_agree_on_one(tmp_path: Path) -> None:
    for turn in range(40):
        start = Barrier(6)

        def keep(mine: str, name: str = f"key_{turn}", start: Barrier = start) -> str:
            start.wait()
            return kept_key(tmp_path, name, mine)

        with ThreadPoolExecutor(6) as processes:
            seen = set(processes.map(keep, [f"of {number}" for number in range(6)]))
        assert len(seen) == 1
        assert seen.pop().startswith("of ")


def test_h3_a_process_that_died_while_writing_leaves_no_half_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(descriptor: int) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", die)
        with pytest.raises(OSError, match="no space"):
            kept_key(tmp_path, "secret_key", "lost")
    assert kept_key(tmp_path, "secret_key", "whole") == "whole"
