"""The direction of imports between the packages, and what stays out of a program's first second."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Package -> what else of ours it may import.
ALLOWED = {
    "experts": set[str](),
    "routers": {"experts"},
    "workers": {"experts"},
    "aggregators": {"experts"},
    "orchestrator": {"experts", "routers", "workers", "aggregators"},
    "client": {"coe_client"},  # which is its own
}
OURS = {*ALLOWED, "benchmarks", "coe_client", "examples", "scripts", "tests"}

# Takes seconds to import, so only these modules may do it when they are imported themselves.
HEAVY = {"peft", "ray", "scipy", "sentence_transformers", "sklearn", "torch", "transformers", "vllm"}
HEAVY_MODULES = {
    "orchestrator.cluster": "is the way to Ray",
    "workers.image_copies": "moves tensors",
    "workers.image_files": "reads and writes tensors",
    "workers.images": "holds tensors",
    "workers.vllm_internals": "subclasses vLLM's scheduler and worker",
}


def imports_of(source: str) -> Iterator[tuple[int, str]]:
    """(line, absolute module name) of every import statement, those inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module


def files_of(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_the_scanner_sees_imports_anywhere() -> None:
    source = "import os, routers.base\ndef f():\n    from orchestrator import cli\n    from . import here\n"
    assert list(imports_of(source)) == [(1, "os"), (1, "routers.base"), (3, "orchestrator")]


@pytest.mark.parametrize("package", [name for name in ALLOWED if (ROOT / name).is_dir()])
def test_a_package_imports_only_what_stands_below_it(package: str) -> None:
    forbidden = OURS - ALLOWED[package] - {package}
    files = files_of(package)
    assert files
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in files
        for line, name in imports_of(path.read_text())
        if name.split(".")[0] in forbidden
    ]
    assert not wrong, f"{package} may import {sorted(ALLOWED[package]) or 'nothing of ours'}: {wrong}"


def test_modules_are_light_to_import() -> None:
    modules = [module_name(path) for package in ALLOWED if package != "client" for path in files_of(package)]
    light = [name for name in modules if name not in HEAVY_MODULES and not name.endswith("__main__")]
    assert {"orchestrator.cli.main", "workers.swap_policy", "experts.spec"} <= set(light)
    brought = heavy_packages_of(light)
    assert not brought, f"import these inside the functions that use them: {brought}"


@pytest.mark.parametrize("module", HEAVY_MODULES)
def test_a_heavy_module_is_still_heavy(module: str) -> None:
    source = (ROOT / f"{module.replace('.', '/')}.py").read_text()
    assert HEAVY & {name.split(".")[0] for _, name in imports_of(source)}


def heavy_packages_of(modules: list[str]) -> dict[str, list[str]]:
    """Module -> the heavy packages that it is the first to bring when a new interpreter imports one after the other."""
    program = f"""
import importlib, json, sys
brought, known = {{}}, set()
for module in {modules!r}:
    importlib.import_module(module)
    new = {HEAVY!r} & set(sys.modules) - known
    if new:
        brought[module] = sorted(new)
        known |= new
print(json.dumps(brought))
"""
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    brought: dict[str, list[str]] = json.loads(result.stdout.splitlines()[-1])
    return brought
