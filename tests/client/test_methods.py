"""Both clients are made of one list of requests, `coe_client.calls`: same names, same signatures, types not lost."""

import inspect
from typing import Any, assert_type, get_args

import pytest

from coe_client import (
    Answer,
    AsyncBatches,
    AsyncCoe,
    AsyncFiles,
    AsyncStream,
    Batch,
    Batches,
    Chunk,
    Coe,
    Decision,
    Embeddings,
    Feedback,
    File,
    Files,
    Model,
    ResponseEvent,
    Result,
    Route,
    Stream,
    batch_calls,
    calls,
)
from coe_client.calls import Call, StreamCall
from coe_client.testing import MockService

BUILDERS = {
    name: build
    for name, build in vars(calls).items()
    if inspect.isfunction(build)
    and not name.startswith("_")
    and getattr(inspect.signature(build).return_annotation, "__origin__", None) in (Call, StreamCall)
}


def public(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


def test_both_clients_have_every_request_as_a_method() -> None:
    assert len(BUILDERS) == 15
    assert public(Coe) == public(AsyncCoe) == {*BUILDERS, "chat_many", "close"}


@pytest.mark.parametrize("client", [Coe, AsyncCoe])
@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_a_method_has_the_name_the_words_and_the_signature_of_its_request(client: type, name: str) -> None:
    """What help() and editors show."""
    method, build = getattr(client, name), BUILDERS[name]
    assert (method.__name__, method.__doc__) == (name, build.__doc__)
    assert build.__doc__
    shown, written = inspect.signature(method), inspect.signature(build)
    assert next(iter(shown.parameters)) == "self"
    assert [*shown.parameters.values()][1:] == [*written.parameters.values()]
    [given] = get_args(written.return_annotation)
    stream: Any = Stream if client is Coe else AsyncStream
    assert shown.return_annotation == (stream[given] if name.endswith("_stream") else given)


OF_BATCHES: dict[tuple[type, type], dict[str, str]] = {
    (Files, AsyncFiles): {"upload": "upload", "list": "files", "get": "file", "delete": "delete_file"},
    (Batches, AsyncBatches): {"create": "create", "list": "batches", "get": "batch", "cancel": "cancel"},
}
"""Method -> the function that builds its request."""


@pytest.mark.parametrize("kinds", OF_BATCHES)
def test_files_and_batches_are_the_same_in_both_clients(kinds: tuple[type, type]) -> None:
    blocking, awaited = kinds
    assert public(blocking) == public(awaited)
    for name, function in OF_BATCHES[kinds].items():
        build = getattr(batch_calls, function)
        for kind in kinds:
            assert getattr(kind, name).__doc__ == build.__doc__
            assert [*inspect.signature(getattr(kind, name)).parameters.values()][1:] == [
                *inspect.signature(build).parameters.values()
            ]
    for name in public(blocking) - OF_BATCHES[kinds].keys():
        of_both = [inspect.signature(getattr(kind, name)) for kind in kinds]
        assert of_both[0].parameters == of_both[1].parameters
        assert getattr(blocking, name).__doc__ == getattr(awaited, name).__doc__


def test_a_type_checker_knows_what_each_method_gives() -> None:
    """mypy reads this; an expectation that is not met, or an error that is not there, fails its run."""
    service = MockService()
    with service.client() as coe:
        assert_type(coe.chat_stream("a"), Stream[Chunk])
        assert_type(coe.completions_stream("a", n=2), Stream[Chunk])
        assert_type(coe.responses_stream("a", instructions="b"), Stream[ResponseEvent])

    async def never(coe: Coe, other: AsyncCoe) -> None:
        assert_type(coe.chat("a", temperature=1), Answer)
        assert_type(coe.embeddings("a"), Embeddings)
        assert_type(coe.feedback("a", score=1, timeout=3), Feedback)
        assert_type(coe.explain("a"), Decision)
        assert_type(await other.routes(limit=3), tuple[Decision, ...])
        assert_type(coe.models(), tuple[Model, ...])
        assert_type(await other.route("a"), Route)
        assert_type(coe.files.upload(["a"]), File)
        assert_type(await other.batches.create("file-a"), Batch)
        assert_type(coe.batches.run(["a"]), list[Result])
        assert_type(await other.batches.run(["a"]), list[Result])
        assert_type(other.responses_stream("a"), AsyncStream[ResponseEvent])
        coe.chat("a", temprature=1)  # type: ignore[call-arg]
        coe.completions("a", max_tokens="3")  # type: ignore[arg-type]
        coe.responses("a", n=2)  # type: ignore[call-arg]
        coe.completions(["a", "b"])  # type: ignore[arg-type]

    assert service.requests == [], "a stream asks when it is entered or read"
    assert callable(never)
