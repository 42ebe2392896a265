"""Images that a caller names by URL: which are taken, and how one is fetched.

A service that fetches what callers name can be made to ask what only it can reach: the metadata service of a cloud, the
admin page of a neighbour. So by default nothing is fetched. A host that the operator allows is looked up once, none of
its addresses may be private, and the connection goes to the very address that was looked at, without redirects.

`ImageRefused`   the image is not taken, or could not be had; the message is for the caller
"""

import asyncio
import base64
import binascii
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import httpx

TYPES = ("image/png", "image/jpeg", "image/webp", "image/gif")
_DATA = re.compile(r"data:([a-z]+/[a-z0-9.+-]+);base64,", re.IGNORECASE)
_HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port -> its addresses."""


class ImageRefused(ValueError):
    """The image is not taken, or could not be had."""


@dataclass(frozen=True, slots=True)
class ImageRules:
    """hosts: those from which images are fetched, in small letters, or `*.example.com` for all below one. bytes: of an
    image. url: characters of a URL that is not `data:`. seconds: until a fetched image is there."""

    hosts: tuple[str, ...] = ()
    bytes: int = 10 << 20
    url: int = 2048
    seconds: float = 10.0


def image_problem(url: str, rules: ImageRules) -> str | None:
    """Why an image of this URL is not taken; None if it is. Looks nothing up."""
    if url[:5].lower() == "data:":
        return _data_problem(url, rules)
    if len(url) > rules.url:
        return f"the URL has {len(url):,} characters; the limit is {rules.url}"
    if not re.fullmatch(r"[!-~]+", url) or "\\" in url:
        return "the URL holds white space, a backslash or a character beyond ASCII"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "this is not a URL"
    if parts.scheme not in ("http", "https"):
        return "allowed are data: URLs, and http(s): URLs of hosts that the operator allows"
    if "@" in parts.netloc:
        return "a URL with a user or a password is not taken"
    if not host or not _allowed(host, rules.hosts):
        return "images are not fetched from this host; send the image itself, as data:image/png;base64,..."
    return None


def _data_problem(url: str, rules: ImageRules) -> str | None:
    head = _DATA.match(url[:100])
    if not head or head[1].lower() not in TYPES:
        return f"a data: URL must be data:TYPE;base64,... with one of {', '.join(TYPES)}"
    size = (len(url) - head.end()) * 3 // 4
    if size > rules.bytes:
        return f"the image has some {size:,} bytes; the limit is {rules.bytes:,}"
    return None


def _allowed(host: str, hosts: Sequence[str]) -> bool:
    # Numbers too are hosts (2130706433 is 127.0.0.1); the list is compared with what stands there, nothing else.
    if not _HOST.fullmatch(host):
        return False
    return any(host == one or (one.startswith("*.") and host.endswith(one[1:])) for one in hosts)


def is_public(address: str) -> bool:
    """May an image be fetched from this address? Private, loopback, link-local, shared and reserved ones are not."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in ipaddress.ip_network("64:ff9b::/96"):  # NAT64: the last 32 bits are an IPv4 address
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


def decoded(url: str, rules: ImageRules) -> bytes:
    """The bytes of a `data:` URL. Raises ImageRefused."""
    if problem := _data_problem(url, rules):
        raise ImageRefused(problem)
    try:
        return base64.b64decode(url.partition(",")[2], validate=True)
    except binascii.Error as error:
        raise ImageRefused(f"the data: URL is not valid base64: {error}") from None


async def looked_up(host: str, port: int) -> Sequence[str]:
    """All addresses of a host, as this machine resolves it."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


async def fetch(
    url: str,
    rules: ImageRules,
    *,
    resolve: Resolve = looked_up,
    permitted: Callable[[str], bool] = is_public,
) -> bytes:
    """The image at an http(s) URL. Raises ImageRefused.

    permitted: may this address be connected to? All addresses of a host must be: one that is not is a trap.
    """
    import httpx

    if problem := image_problem(url, rules):
        raise ImageRefused(problem)
    target = httpx.URL(url)
    port = target.port or (443 if target.scheme == "https" else 80)
    try:
        async with asyncio.timeout(rules.seconds):
            addresses = await resolve(target.host, port)
            if not addresses or not all(map(permitted, addresses)):
                raise ImageRefused("images are not fetched from this host: it has an address that is not public")
            # To the address itself: a second look-up could give another one.
            request = httpx.Request(
                "GET",
                target.copy_with(host=addresses[0]),
                headers={"host": target.netloc.decode(), "accept": ", ".join(TYPES), "accept-encoding": "identity"},
                extensions={"sni_hostname": target.host},
            )
            async with httpx.AsyncClient(trust_env=False, follow_redirects=False) as client:
                return await _read(client, request, rules.bytes)
    except (TimeoutError, OSError, httpx.HTTPError):
        raise ImageRefused(f"the image could not be fetched within {rules.seconds:g} s") from None


async def _read(client: "httpx.AsyncClient", request: "httpx.Request", limit: int) -> bytes:
    answer = await client.send(request, stream=True)
    try:
        if answer.status_code != 200:
            raise ImageRefused(f"the host answered {answer.status_code}; redirects are not followed")
        if answer.headers.get("content-type", "").partition(";")[0].strip().lower() not in TYPES:
            raise ImageRefused(f"the host sent something else than {', '.join(TYPES)}")
        body = bytearray()
        async for chunk in answer.aiter_raw():
            body += chunk
            if len(body) > limit:
                raise ImageRefused(f"the image has more than {limit:,} bytes, which is the limit")
        return bytes(body)
    finally:
        await answer.aclose()
