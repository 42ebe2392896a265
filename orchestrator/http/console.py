"""/console/: the web application of `console/`, as it was built. Without a key there is nothing behind it.

The built files lie in `orchestrator/console/`. Names under `assets/` hold a hash of what is in them, so these are kept
for a year; the page itself is asked for anew each time, and answered by 304 where it is the same.
"""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orchestrator.errors import ApiError

FOLDER = Path(__file__).parent.parent / "console"
AT = "/console/"
LEAST_SAVED = 0.9
"""What does not shrink to this is sent as it is."""

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS: Mapping[str, str] = {
    # Nothing from elsewhere, nothing inline, and no way from a text to markup: `trusted-types 'none'` lets no script
    # make any, so what a model says stays text even where the console has a fault.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "vary": "accept-encoding",
    "x-frame-options": "DENY",
}


@dataclass(frozen=True, slots=True)
class File:
    """content, packed: plain and by gzip, None where that saves nothing. tag: of the content, without quotes."""

    kind: str
    content: bytes
    packed: bytes | None
    tag: str
    is_kept: bool


@cache
def files(folder: Path = FOLDER) -> Mapping[str, File]:
    """Path below the console -> file; that of the page is "". Raises FileNotFoundError if it was not built."""
    page = folder / "index.html"
    if not page.is_file():
        raise FileNotFoundError(f"the console is not built: {page} is missing; run: make console")
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in TYPES:
            name = path.relative_to(folder).as_posix()
            found["" if path == page else name] = _file(path, is_kept=name.startswith("assets/"))
    return found


def _file(path: Path, *, is_kept: bool) -> File:
    content = path.read_bytes()
    packed = gzip.compress(content, 9, mtime=0)
    saves = len(packed) < LEAST_SAVED * len(content)
    return File(
        TYPES[path.suffix], content, packed if saves else None, hashlib.sha256(content).hexdigest()[:20], is_kept
    )


def console_routes() -> list[Route]:
    """Not among the paths of the API: they take no key and stand in no document of it."""
    return [
        Route(AT.removesuffix("/"), _moved, methods=["GET"], include_in_schema=False),
        Route(AT + "{name:path}", _served, methods=["GET"], include_in_schema=False),
    ]


async def _moved(request: Request) -> Response:
    return Response(status_code=308, headers={"location": AT})


async def _served(request: Request) -> Response:
    name = request.path_params["name"]
    file = files().get(name)
    if file is None:
        raise ApiError("not_found", f"{AT}{name[:100]}: the console has no such file")
    packed = file.packed if accepts_gzip(request.headers.get("accept-encoding", "")) else None
    tag = f'"{file.tag}{"-gzip" if packed else ""}"'
    headers = {**HEADERS, "content-type": file.kind, "etag": tag}
    headers["cache-control"] = "public, max-age=31536000, immutable" if file.is_kept else "no-cache"
    if packed:
        headers["content-encoding"] = "gzip"
    known = {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}
    if tag in known:
        return Response(status_code=304, headers=headers)
    return Response(packed or file.content, headers=headers)


def accepts_gzip(accepted: str) -> bool:
    """By the header Accept-Encoding; `gzip;q=0` refuses it."""
    for each in accepted.lower().split(","):
        coding, _, weight = each.partition(";")
        if coding.strip() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
