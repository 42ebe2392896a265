"""Files: uploads that are bounded, owned and whole or not there."""

import errno
from pathlib import Path
from typing import Any

import openai
import pytest

from orchestrator.batch.files import Files, OverQuota, Quotas, UnknownFile
from orchestrator.batch.storage import FileUpload, Folder, Shared, Storage
from orchestrator.store import Store
from tests.orchestrator.parts import BATCH, Service

CONTENT = b'{"custom_id": "a"}\n' * 1000


async def upload(service: Service, content: bytes = CONTENT, name: str = "in.jsonl") -> str:
    return (await service.openai.files.create(file=(name, content), purpose="batch")).id


async def test_a_file_is_kept_told_listed_and_deleted(service: Service) -> None:
    client = service.openai
    made = await client.files.create(file=("my lines.jsonl", CONTENT), purpose="batch")
    assert (made.bytes, made.filename, made.purpose, made.object) == (len(CONTENT), "my lines.jsonl", "batch", "file")
    assert (await client.files.retrieve(made.id)) == made
    assert (await client.files.content(made.id)).content == CONTENT
    assert [own.id async for own in client.files.list()] == [made.id]
    assert (await client.files.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError, match="there is no file"):
        await client.files.content(made.id)
    assert [own.id async for own in client.files.list()] == []


async def test_files_are_listed_page_by_page_the_newest_first(service: Service) -> None:
    made = {await upload(service) for _ in range(5)}
    client = service.openai
    seen = [own.id async for own in client.files.list(limit=2)]
    assert set(seen) == made
    assert len(seen) == 5
    assert [own.id async for own in client.files.list(limit=2, order="asc")] == seen[::-1]
    assert [own.id async for own in client.files.list(purpose="batch_output")] == []


async def test_another_key_knows_nothing_of_a_file(service: Service) -> None:
    file = await upload(service)
    rotated, _ = await service.keys.rotate("test")
    service.key, _ = await service.keys.create("other")
    client = service.openai
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(file)
    with pytest.raises(openai.NotFoundError):
        await client.files.delete(file)
    assert [own.id async for own in client.files.list()] == []
    service.key = rotated  # a key of the same lineage
    assert (await service.openai.files.retrieve(file)).id == file


@pytest.mark.parametrize("file", ["file-" + "0" * 24, "x", "..", "file-../../etc/passwd", "%2e%2e%2fkeys"])
async def test_what_is_no_file_is_not_found(service: Service, file: str) -> None:
    for path in (f"/v1/files/{file}", f"/v1/files/{file}/content"):
        assert (await service.http.get(path)).status_code == 404


# Files that end by themselves


@pytest.fixture
def clock(service: Service, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Unix time as the service's files have it."""
    now = [1_800_000_000.0]
    assert service.batches is not None
    monkeypatch.setattr(service.batches.files, "_now", lambda: now[0])
    return now


async def test_a_file_ends_at_its_time_and_leaves_nothing(service: Service, clock: list[float], tmp_path: Path) -> None:
    assert service.batches is not None
    client, files = service.openai, service.batches.files
    made = await client.files.create(
        file=("in.jsonl", CONTENT), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    stays = await upload(service)
    assert (made.created_at, made.expires_at) == (1_800_000_000, 1_800_003_600)
    clock[0] += 3599
    assert files.remove_expired() == 0
    assert (await client.files.retrieve(made.id)).expires_at == made.expires_at
    clock[0] += 1
    with pytest.raises(openai.NotFoundError, match="there is no file"):
        await client.files.content(made.id)
    with pytest.raises(openai.NotFoundError, match="there is no file"):
        await client.batches.create(input_file_id=made.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert [own.id async for own in client.files.list()] == [stays]
    assert files.remove_expired() == 1
    assert {path.name for path in left(tmp_path)} == {stays, f"{stays}.json"}
    assert (await client.files.retrieve(stays)).expires_at is None


@pytest.mark.parametrize("seconds", [3599, 2_592_001, -1])
async def test_a_file_ends_after_an_hour_at_the_least_and_thirty_days_at_the_most(
    service: Service, seconds: int
) -> None:
    with pytest.raises(openai.BadRequestError, match=r"expires_after\[seconds\]: got .* 3600 to 2592000"):
        await service.openai.files.create(
            file=("in.jsonl", CONTENT), purpose="batch", expires_after={"anchor": "created_at", "seconds": seconds}
        )


# Bounds


async def bounded(store: Store, tmp_path: Path, **bounds: int) -> Service:
    return await Service.start(store, batch=tmp_path / "home", batch_config=BATCH.model_copy(update=bounds))


def left(tmp_path: Path) -> list[Path]:
    """All files that there are."""
    return [path for path in (tmp_path / "home").rglob("*") if path.is_file()]


async def test_a_file_over_its_limit_is_refused_and_leaves_nothing(store: Store, tmp_path: Path) -> None:
    service = await bounded(store, tmp_path, file_bytes=10_000)
    with pytest.raises(openai.APIStatusError, match="more than 10,000 bytes") as refused:
        await upload(service)
    assert refused.value.status_code == 413
    assert left(tmp_path) == []
    await upload(service, CONTENT[:9000])
    await service.stop()


async def test_a_key_has_a_quota_and_room_again_when_it_deletes(store: Store, tmp_path: Path) -> None:
    service = await bounded(store, tmp_path, key_bytes=2 * len(CONTENT) + 1000)
    first = await upload(service)
    await upload(service)
    with pytest.raises(openai.BadRequestError, match="the files of this API key have") as refused:
        await upload(service)
    assert refused.value.code == "storage_quota_exceeded"
    await service.openai.files.delete(first)
    await upload(service)
    await service.stop()


async def test_all_keys_together_have_a_quota(store: Store, tmp_path: Path) -> None:
    service = await bounded(store, tmp_path, total_bytes=2 * len(CONTENT) + 1000)
    await upload(service)
    await upload(service)
    service.key, _ = await service.keys.create("other")
    with pytest.raises(openai.BadRequestError, match="the files of the service have"):
        await upload(service)
    await service.stop()


async def test_a_full_disk_is_told_and_leaves_nothing(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: FileUpload, piece: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FileUpload, "write", full)
    with pytest.raises(openai.InternalServerError, match="no room on the disk") as refused:
        await upload(service)
    assert (refused.value.status_code, refused.value.code) == (507, "storage_full")
    assert left(tmp_path) == []


async def test_an_upload_that_breaks_off_leaves_nothing(service: Service, tmp_path: Path) -> None:
    head = b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
    messages = [
        {"type": "http.request", "body": head + b"y" * 3_000_000, "more_body": True},
        {"type": "http.disconnect"},
    ]
    sizes, answered = [], []

    async def receive() -> Any:
        sizes.append(sum(path.stat().st_size for path in left(tmp_path)))
        return messages.pop(0)

    async def send(message: Any) -> None:
        answered.append(message)

    headers = {
        b"host": b"coe",
        b"content-type": b"multipart/form-data; boundary=x",
        b"authorization": f"Bearer {service.key}".encode(),
    }
    scope = {"type": "http", "method": "POST", "path": "/v1/files", "query_string": b"", "headers": [*headers.items()]}
    await service.app({**scope, "http_version": "1.1"}, receive, send)
    assert sizes == [0, 3_000_000]  # it was on its way to the disk
    assert left(tmp_path) == []
    assert answered[0]["status"] == 499


# Forms

PART = '--x\r\ncontent-disposition: form-data; name="{}"{}\r\n\r\n{}\r\n'
FILE, PURPOSE = PART.format("file", '; filename="a"', "y"), PART.format("purpose", "", "batch")


@pytest.mark.parametrize(
    ("form", "code"),
    [
        (FILE + "--x--\r\n", "invalid_value"),  # no purpose
        (PURPOSE + "--x--\r\n", "invalid_value"),  # no file
        (FILE + PART.format("purpose", "", "fine-tune") + "--x--\r\n", "invalid_value"),
        (FILE + FILE + PURPOSE + "--x--\r\n", "malformed_request"),
        (FILE + PURPOSE + PART.format("color", "", "red") + "--x--\r\n", "unknown_parameter"),
        (FILE + PURPOSE + PART.format("expires_after", "", "3600") + "--x--\r\n", "unknown_parameter"),
        (FILE + PURPOSE + PART.format("expires_after[anchor]", "", "created_at") + "--x--\r\n", "invalid_value"),
        (FILE + PURPOSE + PART.format("expires_after[seconds]", "", "3600") + "--x--\r\n", "invalid_value"),
        (FILE + PART.format("purpose", "", "b" * 2000) + "--x--\r\n", "malformed_request"),
        (FILE + PURPOSE, "malformed_request"),  # no end
        ("nothing of the kind", "malformed_request"),
        ("", "malformed_request"),
    ],
)
async def test_a_form_that_is_none_is_refused(service: Service, tmp_path: Path, form: str, code: str) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = await service.http.post("/v1/files", content=form.encode(), headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert left(tmp_path) == []


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded", ""])
async def test_an_upload_is_a_form(service: Service, kind: str) -> None:
    answer = await service.http.post("/v1/files", content=b"{}", headers={"content-type": kind})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")


async def test_a_form_without_a_boundary_is_refused(service: Service) -> None:
    answer = await service.http.post("/v1/files", content=b"x", headers={"content-type": "multipart/form-data"})
    assert answer.json()["error"]["code"] == "malformed_request"


@pytest.mark.parametrize(
    ("given", "kept"),
    [("../../etc/passwd", "passwd"), ("C:\\data\\in.jsonl", "in.jsonl"), ("a\r\nb", "ab"), ("n" * 999, "n" * 255)],
)
async def test_a_file_name_is_only_a_name(service: Service, given: str, kept: str) -> None:
    shown = given.replace("\r\n", "\x01").replace("\\", "\\\\")
    form = PART.format("file", f'; filename="{shown}"', "y") + PURPOSE + "--x--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = await service.http.post("/v1/files", content=form.encode(), headers=headers)
    assert answer.json()["filename"] == kept


# Storage: a folder, and what fsspec knows


@pytest.fixture(params=["folder", "fsspec"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return Folder(tmp_path / "a")
    return Shared(f"file://{tmp_path}/b", tmp_path / "cache")


def test_an_object_is_whole_or_not_there(storage: Storage) -> None:
    with pytest.raises(FileNotFoundError):
        storage.read("some/name")
    with storage.upload("some/name") as given_up:
        given_up.write(b"half")
    assert storage.names("some") == []
    with storage.upload("some/name") as whole:
        whole.write(b"one ")
        whole.write(b"two")
        whole.commit()
    assert storage.read("some/name") == storage.local("some/name").read_bytes() == b"one two"
    assert storage.names("some") == ["name"]
    assert storage.sizes("some") == {"name": 7}
    assert storage.exists("some/name")
    storage.remove("some")
    assert not storage.exists("some/name")
    assert storage.sizes("some") == {}


def test_a_copy_outlives_its_source(storage: Storage) -> None:
    storage.write("a/one", b"text")
    storage.copy("a/one", "b/two")
    storage.remove("a/one")
    assert storage.read("b/two") == b"text"


def test_a_log_grows(storage: Storage) -> None:
    at = 0
    for number in range(12):
        piece = b"%d\n" % number
        storage.append("logs/me", number, at, piece)
        at += len(piece)
    storage.append("logs/you", 0, 0, b"other\n")
    assert storage.logs("logs") == ["me", "you"]
    assert storage.log("logs/me") == b"".join(b"%d\n" % number for number in range(12))
    assert storage.local_log("logs/you").read_bytes() == b"other\n"
    assert storage.logs("nothing") == []


def test_half_of_a_piece_that_found_no_room_is_not_in_the_log(storage: Storage) -> None:
    storage.append("logs/me", 0, 0, b"one\n")
    storage.append("logs/me", 1, 4, b"a piece of which only half is on dis")
    storage.append("logs/me", 1, 4, b"two\n")
    storage.append("logs/me", 2, 8, b"three\n")
    assert storage.log("logs/me") == b"one\ntwo\nthree\n"


@pytest.mark.parametrize("name", ["../up", "a/../b", "/abs", "", "a//b", ".hidden", "a/.b", "a b"])
def test_names_lead_nowhere_else(storage: Storage, name: str) -> None:
    with pytest.raises(ValueError, match="not a name of the storage"):
        storage.write(name, b"")


def test_uploads_under_way_count(tmp_path: Path) -> None:
    files = Files(Folder(tmp_path), Quotas(file=1000, owner=1500, total=10_000))
    with files.receive("me", lambda: "a") as (first, _), files.receive("me", lambda: "b") as (second, finish):
        first.write(b"x" * 1000)
        with pytest.raises(OverQuota, match="1,000 of 1,500 bytes"):
            second.write(b"x" * 501)
        with pytest.raises(UnknownFile):
            files.get("me", finish.__name__)
    assert files.newest("me") == []
