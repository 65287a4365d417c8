"""The Dockerfile, read: there is no engine where the tests run."""

import json
import re
from fnmatch import fnmatch
from pathlib import Path

from config.settings import Settings

ROOT = Path(__file__).parents[2]


def instructions() -> list[tuple[str, str]]:
    """Every instruction with its arguments on one line, comments left out."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage."""
    found: list[list[tuple[str, str]]] = []
    for name, rest in instructions():
        if name == "FROM":
            found.append([])
        found[-1].append((name, rest))
    return found


def given(name: str) -> list[str]:
    """The arguments of an instruction in the stage that runs."""
    return [rest for instruction, rest in stages()[-1] if instruction == name]


def environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for rest in given("ENV") for pair in rest.split())


def sources() -> list[str]:
    """What is copied out of the project."""
    copies = [rest.split() for name, rest in instructions() if name == "COPY" and "--from" not in rest]
    return [source.removeprefix("./") for *copied, _ in copies for source in copied]


def test_what_is_copied_exists() -> None:
    assert {"requirements.txt", "pyproject.toml", "hub", "providers", "config"} <= set(sources())
    for source in sources():
        assert (ROOT / source).exists(), source


def test_what_is_copied_is_not_ignored() -> None:
    lines = (ROOT / ".dockerignore").read_text().split("\n")
    patterns = [line.rstrip("/") for line in lines if line and not line.startswith("#")]
    for source in sources():
        is_ignored = False
        for pattern in patterns:
            if fnmatch(source, pattern.removeprefix("!")):
                is_ignored = not pattern.startswith("!")
        assert not is_ignored, source


def test_what_the_project_file_names_is_copied() -> None:
    """The wheel's metadata reads the README, and takes the licence along."""
    assert {"README.md", "LICENSE"} <= set(sources())


def test_two_stages_on_one_small_python() -> None:
    bases = [stage[0][1].split()[0] for stage in stages()]
    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.\d+-slim-\w+", bases[0])


def test_dependencies_come_by_their_hashes() -> None:
    runs = [rest for name, rest in instructions() if name == "RUN"]
    installs = [part for rest in runs for part in rest.split("&&") if "pip install" in part]
    assert installs
    for install in installs:
        assert "--require-hashes" in install or ("--no-index" in install and "--no-deps" in install)
    for name in ("requirements.txt", "requirements-dev.txt"):
        text = (ROOT / name).read_text()
        for entry in re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]:
            assert re.match(r"[\w.\-]+(\[[\w,]+\])?==\S+", entry), entry[:60]
            assert "--hash=sha256:" in entry, entry[:60]


def test_runs_as_an_ordinary_user_that_the_passwd_file_knows() -> None:
    (user,) = given("USER")
    uid, gid = user.split(":")
    assert int(uid) > 0
    added = next(rest for rest in given("RUN") if "useradd" in rest)
    assert f"useradd --uid {uid} --gid {gid}" in added
    assert "--owner=partyline" in added


def test_writes_to_its_volume_only() -> None:
    assert given("VOLUME") == ["/data"]
    assert environment()["PARTYLINE_DATA_DIR"] == "/data"
    assert environment()["PYTHONDONTWRITEBYTECODE"] == "1"


def test_listens_where_it_says() -> None:
    assert environment()["PARTYLINE_HOST"] == "0.0.0.0"
    assert given("EXPOSE") == [environment()["PARTYLINE_PORT"]]
    names = {name.removeprefix("PARTYLINE_").lower() for name in environment() if name.startswith("PARTYLINE_")}
    assert names <= set(Settings.model_fields)


def test_is_healthy_by_python_alone() -> None:
    (check,) = given("HEALTHCHECK")
    program, option, script = json.loads(check.partition("CMD ")[2])
    assert (program, option) == ("python", "-c")
    compile(script, "healthcheck", "exec")
    assert "/healthz" in script


def test_stops_as_the_hub_expects() -> None:
    assert given("STOPSIGNAL") == ["SIGTERM"]
    assert json.loads(given("ENTRYPOINT")[0]) + json.loads(given("CMD")[0]) == ["partyline", "serve"]
