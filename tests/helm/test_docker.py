"""The Dockerfile, as far as it can be judged without Docker."""

import fnmatch
import re
import subprocess
from pathlib import Path

import pytest

from tests.helm.chart import ROOT, case, containers
from tests.helm.tools import HADOLINT

DOCKERFILE = ROOT / "docker" / "Dockerfile"


def linted(path: Path) -> str:
    command = [str(HADOLINT.fetched() / "hadolint"), "--no-color", "--strict-labels", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout + result.stderr


def stages() -> dict[str, list[tuple[str, str]]]:
    """Stage -> its instructions, each with what follows it; FROM is the first."""
    text = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE))
    found: dict[str, list[tuple[str, str]]] = {"": []}
    name = ""
    for line in filter(None, map(str.strip, text.splitlines())):
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            name = rest.split(" AS ")[1]
            found[name] = []
        found[name].append((instruction, " ".join(rest.split())))
    return found


def test_the_linter_finds_nothing() -> None:
    assert linted(DOCKERFILE) == ""


def test_the_linter_would_find_something(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN apt-get install curl\nUSER root\n")
    said = linted(tmp_path / "Dockerfile")
    assert "DL3006" in said  # no version
    assert "DL3002" in said  # the last user is root


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_what_runs_is_no_root_and_cannot_change_its_own_code(target: str) -> None:
    instructions = stages()[target]
    assert instructions[0] == ("FROM", f"runtime AS {target}")
    assert instructions[-1] == ("USER", "10001:10001")
    assert ("COPY", f"--from={target}-environment /opt/coe /opt/coe") in instructions  # owned by root
    assert not [rest for own in stages().values() for word, rest in own if word == "COPY" and "--chown" in rest]


def test_the_user_is_the_one_of_the_chart() -> None:
    [created] = [rest for word, rest in stages()["runtime"] if word == "RUN"]
    assert "useradd --uid 10001 --gid 10001" in created
    for where, container, spec in containers(case("cpu")):
        if "coe-server" in container["image"]:
            security = spec["securityContext"]
            assert (security["runAsUser"], security["runAsGroup"]) == (10001, 10001), where


def test_no_compiler_and_no_tests_are_in_the_image_for_the_cpu() -> None:
    inside = [rest for stage in ("runtime", "cpu") for word, rest in stages()[stage] if word == "RUN"]
    assert not re.search(r"\b(gcc|g\+\+|build-essential|make|git)\b", " ".join(inside))
    copied = [rest.split()[:-1] for word, rest in stages()["source"] if word == "COPY"]
    assert copied
    assert not any("tests" in names for names in copied)


def test_every_base_has_a_version_and_can_be_pinned_from_outside() -> None:
    [(word, base)] = stages()[""]
    assert word == "ARG"
    assert re.fullmatch(r"PYTHON=docker\.io/library/python:3\.1[1-4]-slim-\w+(@sha256:[0-9a-f]{64})?", base)
    named = {own[0][1].split(" AS ")[0] for name, own in stages().items() if name}
    assert named - stages().keys() == {"${PYTHON}"}


def test_all_that_is_copied_exists_and_reaches_the_builder() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copied = {name for word, rest in stages()["source"] if word == "COPY" for name in rest.split()[:-1]}
    assert copied == let_in
    assert all((ROOT / name).exists() for name in copied)
    # All that the service imports, by the packages that the project declares.
    declared = re.search(r"include = \[([^\]]*)\]", (ROOT / "pyproject.toml").read_text())
    assert declared is not None
    packages = [name.strip('"* ') for name in declared[1].split(",")]
    assert all(any(fnmatch.fnmatch(own, name) for own in copied) for name in packages)


def test_no_secret_is_built_in() -> None:
    words = [rest for own in stages().values() for word, rest in own if word in ("ARG", "ENV")]
    assert not re.search(r"(KEY|TOKEN|PASSWORD|SECRET)\w*=", " ".join(words))
