"""/console/: the built web application, safe headers around it, and nothing behind it without a key."""

import gzip
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from orchestrator.http.console import FOLDER, HEADERS, accepts_gzip, files
from orchestrator.store import Store
from scripts.console import BUILT, ROOT, SOURCES, STAMP, differences, fingerprint
from tests.orchestrator.parts import Service


@pytest_asyncio.fixture
async def service(store: Store) -> AsyncIterator[Service]:
    service = await Service.start(store, console=True)
    yield service
    await service.stop()


def test_what_is_built_is_built_from_the_sources_as_they_are() -> None:
    assert (BUILT / STAMP).read_text().strip() == fingerprint(), "the console is out of date: make console"


def test_a_changed_source_has_another_fingerprint(tmp_path: Path) -> None:
    for name in ("index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts", "src/a.ts"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    before = fingerprint(tmp_path)
    (tmp_path / "src/a.ts").rename(tmp_path / "src/b.ts")
    assert fingerprint(tmp_path) != before


def test_a_difference_between_builds_is_told(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        (folder / "assets").mkdir(parents=True)
        (folder / "index.html").write_text("same")
    (one / "assets/a.js").write_text("1")
    (other / "assets/a.js").write_text("2")
    (other / "assets/b.js").write_text("")
    assert differences(one, other) == ["assets/a.js", "assets/b.js"]


def test_the_python_package_has_it(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "LICENSE", "orchestrator"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path)
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=tmp_path, capture_output=True, text=True, check=True)
    [wheel] = tmp_path.glob("*.whl")
    assert wheel.name in done.stdout
    with zipfile.ZipFile(wheel) as packed:
        there = {name for name in packed.namelist() if name.startswith("orchestrator/console/")}
    assert there == {path.relative_to(ROOT).as_posix() for path in BUILT.rglob("*") if path.is_file()}


def test_the_lock_names_no_host() -> None:
    assert "resolved" not in (SOURCES / "package-lock.json").read_text()


def test_the_first_page_is_under_300_kb() -> None:
    sizes = {name: len(file.packed or file.content) for name, file in files().items()}
    assert {"", "assets"} == {name.partition("/")[0] for name in sizes}
    assert sum(sizes.values()) < 300_000


def test_nothing_is_inline_or_from_elsewhere() -> None:
    page = (FOLDER / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page)
    assert {address.partition("assets")[0] for address in re.findall(r'(?:src|href)="([^"]*)"', page)} == {"/console/"}


async def test_the_page_needs_no_key_and_has_strict_headers(service: Service) -> None:
    response = await service.http.get("/console/", headers={"authorization": ""})
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    for name, value in HEADERS.items():
        assert response.headers[name] == value
    policy = response.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "http" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"


async def test_the_page_is_asked_for_anew_and_its_files_are_kept(service: Service) -> None:
    page = await service.http.get("/console/")
    assert page.headers["cache-control"] == "no-cache"
    again = await service.http.get("/console/", headers={"if-none-match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == page.headers["etag"]
    for name in filter(None, files()):
        response = await service.http.get(f"/console/{name}")
        assert response.headers["cache-control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize(
    ("accepted", "takes"),
    [
        ("gzip, deflate, br", True),
        ("br;q=1.0, gzip;q=0.8", True),
        ("*", True),
        ("", False),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip; q=0.0", False),
    ],
)
async def test_who_takes_gzip_gets_it(service: Service, accepted: str, takes: bool) -> None:
    assert accepts_gzip(accepted) is takes
    name = next(name for name in files() if name.endswith(".js"))
    response = await service.http.get(f"/console/{name}", headers={"accept-encoding": accepted})
    assert (response.headers.get("content-encoding") == "gzip") is takes
    assert response.headers["vary"] == "accept-encoding"
    assert response.content == (FOLDER / name).read_bytes()
    packed = files()[name].packed
    assert packed is not None
    assert gzip.decompress(packed) == response.content


async def test_the_folder_without_its_slash_leads_there(service: Service) -> None:
    response = await service.http.get("/console")
    assert (response.status_code, response.headers["location"]) == (308, "/console/")


@pytest.mark.parametrize(
    "path", ["/console/index.html", "/console/../api.py", "/console/%2e%2e/api.py", "/console/built-from.txt"]
)
async def test_there_is_nothing_else(service: Service, path: str) -> None:
    response = await service.http.get(path)
    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")


async def test_it_can_be_switched_off(store: Store) -> None:
    service = await Service.start(store)
    assert (await service.http.get("/console/")).status_code == 404
    await service.stop()


def test_a_package_without_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make console"):
        files(tmp_path)
