"""The distribution: what its wheel holds and needs, what its import costs, and what it exports."""

import ast
import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import coe_client
from coe_client import errors

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "client" / "coe_client"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "client", folder / "client", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", folder, folder / "client"], check=True, capture_output=True)
    [built] = folder.glob("*.whl")
    assert built.name == f"coe_client-{coe_client.__version__}-py3-none-any.whl"
    return zipfile.ZipFile(built)


def test_the_wheel_holds_this_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    ours = {f"coe_client/{path.name}" for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert "coe_client/py.typed" in ours
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == ours


def test_the_wheel_needs_two_packages_and_langchain_only_if_asked_for(wheel: zipfile.ZipFile) -> None:
    [name] = [name for name in wheel.namelist() if name.endswith("/METADATA")]
    metadata = message_from_bytes(wheel.read(name))
    needs = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    assert {need.name for need in needs if not need.marker} == {"httpx", "pydantic"}
    assert {(need.name, str(need.marker)) for need in needs if need.marker} == {
        ("langchain-core", 'extra == "langchain"')
    }
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"


def test_the_wheel_works_without_this_checkout(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    program = "import coe_client, coe_client.testing; print(coe_client.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(tmp_path / "coe_client" / "__init__.py")


def test_importing_it_brings_nothing_that_it_does_not_need() -> None:
    program = "import sys, coe_client, coe_client.testing; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    brought = set(done.stdout.split())
    assert {"httpx", "pydantic"} <= brought
    server = {"experts", "routers", "workers", "aggregators", "orchestrator"}
    assert not brought & {*server, "langchain_core", "langsmith", "numpy", "openai", "torch", "ray", "fastapi"}


def test_all_names_are_exported_and_all_exports_are_named() -> None:
    assert coe_client.__all__ == sorted(coe_client.__all__)
    assert all(hasattr(coe_client, name) for name in coe_client.__all__)
    imported = {
        alias.asname or alias.name
        for node in ast.parse((PACKAGE / "__init__.py").read_text()).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == set(coe_client.__all__)


def test_every_error_is_exported() -> None:
    tree = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.CoeError)}
    assert tree <= set(coe_client.__all__)


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_only_the_modules_for_langchain_import_langchain(path: Path) -> None:
    modules = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name) or ""
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    others = {name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names) - {"coe_client"}
    allowed = {"httpx", "pydantic"} | ({"langchain_core"} if path.stem.startswith("langchain") else set())
    assert others <= allowed
