"""Remote experts, on LangChain's own fake chat models."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import SecretStr

from experts.spec import ExpertSpec, Sampling
from workers import base
from workers.base import ChatCall, Delta, Event, Failure, Finish, Usage
from workers.remote import RemoteEngine, _code


class Telling(BaseChatModel):
    """A chat model that says what it was asked and with which arguments; 'fail' makes it fail."""

    api_key: SecretStr
    words: int = 0

    @property
    def _llm_type(self) -> str:
        return "telling"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content="unused"))])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        text = str(messages[-1].content)
        if text == "fail":
            raise RuntimeError(f"refused with key {self.api_key.get_secret_value()}")
        for word in (*text.split(), str(sorted(kwargs.items()))):
            yield ChatGenerationChunk(message=AIMessageChunk(content=word + " "))
        last = AIMessageChunk(content="", response_metadata={"finish_reason": "length"})
        last.usage_metadata = UsageMetadata(input_tokens=3, output_tokens=4, total_tokens=7)
        yield ChatGenerationChunk(message=last)


def spec(**changes: Any) -> ExpertSpec:
    arguments: dict[str, Any] = {
        "name": "far",
        "kind": "remote",
        "source": f"{__name__}:Telling",
        "options": {"api_key": "env:FAR_KEY"},
        "sampling": Sampling(temperature=0.5),
    }
    return ExpertSpec(**(arguments | changes))


async def ask(engine: RemoteEngine, text: str, **sampling: Any) -> tuple[str, Event]:
    call = ChatCall("r", "far", ({"role": "user", "content": text},), base.Sampling(**sampling))
    async with aclosing(engine.generate(call)) as stream:
        events = [event async for event in stream]
    return "".join(event.text for event in events if isinstance(event, Delta)), events[-1]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> None:
    """This file under the name by which the spec imports it."""
    import sys
    from types import ModuleType

    here = ModuleType(__name__)
    here.Telling = Telling  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, __name__, here)


@pytest.fixture
async def engine(module: None, monkeypatch: pytest.MonkeyPatch) -> RemoteEngine:
    monkeypatch.setenv("FAR_KEY", "secret-of-far")
    engine = RemoteEngine("far", [spec()])
    await engine.start()
    return engine


async def test_a_chat_model_streams_with_the_experts_defaults(engine: RemoteEngine) -> None:
    text, last = await ask(engine, "hello there", max_tokens=7)
    assert text.startswith("hello there ")
    assert "('max_tokens', 7)" in text
    assert "('temperature', 0.5)" in text
    assert last == Finish("length", "far", Usage(3, 4))
    assert (await engine.stats()).tiers == {"far": "remote"}


async def test_stop_strings_end_the_answer(engine: RemoteEngine) -> None:
    text, last = await ask(engine, "one two three", stop=(" tw",))
    assert text == "one"
    assert isinstance(last, Finish)
    assert last.reason == "stop"


async def test_a_providers_error_is_told_without_its_words(engine: RemoteEngine) -> None:
    _, last = await ask(engine, "fail")
    assert isinstance(last, Failure)
    assert last.code == "expert_unavailable"
    assert "RuntimeError" in last.message
    assert "secret" not in last.message


class Refused(Exception):
    def __init__(self, status: int) -> None:
        self.status_code = status


class WithResponse(Exception):
    def __init__(self, status: int) -> None:
        self.response = Refused(status)


@pytest.mark.parametrize("kind", [Refused, WithResponse])
def test_whose_fault_a_failure_is_comes_from_the_providers_status(kind: type[Exception]) -> None:
    assert [_code(kind(status)) for status in (400, 413, 422)] == ["invalid_request"] * 3
    assert {_code(kind(status)) for status in (401, 404, 408, 429, 500, 503)} == {"expert_unavailable"}
    assert _code(ConnectionError()) == "expert_unavailable"


async def test_a_deadline_that_passed(engine: RemoteEngine) -> None:
    call = ChatCall("r", "far", ({"role": "user", "content": "hi"},), deadline=1.0)
    async with aclosing(engine.generate(call)) as stream:
        events = [event async for event in stream]
    assert isinstance(events[-1], Failure)
    assert events[-1].code == "deadline"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"source": "no_such_package_here:Model"}, "ModuleNotFoundError"),
        ({"source": f"{__name__}:Missing"}, "AttributeError"),
        ({"options": {"api_key": "env:NOT_SET_ANYWHERE"}}, "NOT_SET_ANYWHERE is not set"),
        ({"options": {"api_key": "literal-secret", "words": "literal-secret"}}, "ValidationError"),
    ],
)
async def test_an_expert_that_cannot_be_made_fails_alone(module: None, changes: dict[str, Any], why: str) -> None:
    engine = RemoteEngine("far", [spec(**changes)])
    await engine.start()
    tier = (await engine.stats()).tiers["far"]
    assert tier.startswith("failed: ")
    assert why in tier
    assert "literal-secret" not in tier
    _, last = await ask(engine, "hi")
    assert isinstance(last, Failure)
    assert last.code == "expert_unavailable"
