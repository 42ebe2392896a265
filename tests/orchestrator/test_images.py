"""Images by URL: what is taken, and what an attacker would have the service fetch."""

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import pytest

from orchestrator.http.images import ImageRefused, ImageRules, decoded, fetch, image_problem, is_public

PIXEL = b"\x89PNG\r\n\x1a\n" + bytes(50)
DATA = "data:image/png;base64," + base64.b64encode(PIXEL).decode()
NONE, SOME = ImageRules(), ImageRules(hosts=("img.example.com", "*.cdn.example.com"))


def test_data_urls_are_taken_up_to_their_bound() -> None:
    assert image_problem(DATA, NONE) is None
    assert decoded(DATA, NONE) == PIXEL
    assert image_problem("data:image/png;base64," + "A" * 4000, ImageRules(bytes=2999)) is not None
    assert image_problem("data:image/png;base64," + "A" * 4000, ImageRules(bytes=3000)) is None


@pytest.mark.parametrize(
    "url",
    [
        "data:",
        "data:image/svg+xml;base64,AAAA",
        "data:text/html;base64,AAAA",
        "data:image/png,AAAA",
        "data:;base64,AAAA",
    ],
)
def test_data_urls_of_another_form_are_not(url: str) -> None:
    assert "image/png" in (image_problem(url, NONE) or "")


@pytest.mark.parametrize("content", ["****", "AAA", "AA AA", "AAAA\n"])
def test_what_is_no_base64_is_refused(content: str) -> None:
    with pytest.raises(ImageRefused):
        decoded("data:image/png;base64," + content, NONE)


def test_by_default_no_host_is_asked() -> None:
    assert "send the image itself" in (image_problem("https://img.example.com/a.png", NONE) or "")


@pytest.mark.parametrize(
    "url",
    ["https://img.example.com/a.png", "HTTPS://IMG.example.com:8443/a?b=c", "http://a.b.cdn.example.com/x"],
)
def test_hosts_that_are_allowed(url: str) -> None:
    assert image_problem(url, SOME) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.com/a.png",
        "https://img.example.com.evil.com/",
        "https://evilimg.example.com/",
        "https://cdn.example.com/",
        "https://img.example.com@evil.com/",
        "https://user:pw@img.example.com/",
        "https://evil.com#@img.example.com/",
        "https://evil.com\\@img.example.com/",
        "https://img.example.com\\.evil.com/",
        "https://img.example.com%2eevil.com/",
        "https://img.example.com\r\nhost: evil.com/",
        "https://img.example.com\t/",
        "https://ımg.example.com/",
        "https://[::1]/",
        "https://[img.example.com/",
        "https://img.example.com:99999/",
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http:///etc/passwd",
        "//img.example.com/a",
        "file:///etc/passwd",
        "gopher://img.example.com/",
        "ftp://img.example.com/",
        "img.example.com/a.png",
        "",
        "https://img.example.com/" + "a" * 2048,
    ],
)
def test_urls_that_are_not(url: str) -> None:
    problem = image_problem(url, SOME)
    assert problem
    assert len(problem) < 200


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "240.0.0.1",
        "::1",
        "::",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)


# Fetching, from a server on loopback, which only a test may permit


class Host:
    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.answer = b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: %d\r\n\r\n" % len(PIXEL) + PIXEL
        self.silent = False
        self.serving: list[asyncio.Task[None]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self.serving.append(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            self.asked.append(await reader.readuntil(b"\r\n\r\n"))
            if self.silent:
                await reader.read()
            writer.write(self.answer)
            await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def host() -> AsyncIterator[tuple[Host, str]]:
    it = Host()
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0)
    async with server:
        yield it, f"http://img.example.com:{server.sockets[0].getsockname()[1]}/a.png"
        await asyncio.gather(*it.serving)


def resolving(*addresses: str) -> "Resolver":
    return Resolver(addresses)


class Resolver:
    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses, self.asked = addresses, 0

    async def __call__(self, name: str, port: int) -> Sequence[str]:
        self.asked += 1
        return self._addresses


def anything(address: str) -> bool:
    return True


async def test_an_image_is_fetched_from_the_address_that_was_looked_at() -> None:
    resolve = resolving("127.0.0.1")
    async with host() as (it, url):
        assert await fetch(url, SOME, resolve=resolve, permitted=anything) == PIXEL
        [head] = it.asked
    assert resolve.asked == 1
    assert head.startswith(b"GET /a.png HTTP/1.1\r\n")
    assert b"host: img.example.com:" in head.lower()
    assert b"authorization" not in head.lower()


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("93.184.216.34", "127.0.0.1"), ("::1",), ()])
async def test_an_allowed_host_with_a_private_address_is_not_asked(addresses: tuple[str, ...]) -> None:
    async with host() as (it, url):
        with pytest.raises(ImageRefused, match="not public"):
            await fetch(url, SOME, resolve=resolving(*addresses))
        assert it.asked == []


async def test_a_host_that_is_not_allowed_is_not_even_looked_up() -> None:
    resolve = resolving("93.184.216.34")
    with pytest.raises(ImageRefused):
        await fetch("http://evil.com/a.png", SOME, resolve=resolve)
    assert resolve.asked == 0


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n", "answered 302"),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "answered 404"),
        (b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 1\r\n\r\nx", "something else"),
        (b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n\r\n" + b"x" * 5000, "more than 1,000 bytes"),
        (b"garbage", "could not be fetched"),
    ],
)
async def test_what_a_host_may_answer(answer: bytes, told: str) -> None:
    async with host() as (it, url):
        it.answer = answer
        with pytest.raises(ImageRefused, match=told):
            await fetch(url, ImageRules(SOME.hosts, bytes=1000), resolve=resolving("127.0.0.1"), permitted=anything)
        assert len(it.asked) == 1


async def test_a_silent_host_is_not_waited_for() -> None:
    async with host() as (it, url):
        it.silent = True
        with pytest.raises(ImageRefused, match="could not be fetched within"):
            await fetch(url, ImageRules(SOME.hosts, seconds=0.2), resolve=resolving("127.0.0.1"), permitted=anything)
