"""What a request may ask for: this service's own options, and OpenAI's fields."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypedDict

from pydantic import BaseModel

Messages = str | Sequence[Mapping[str, Any]]
"""A conversation in OpenAI's form; a string is one message of the user."""
Need = Literal["tools", "image", "audio"]
Thumbs = Literal["up", "down"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The most that an answer may cost: calls of experts, US dollars where experts have prices, or both."""

    calls: int | None = None
    usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The field `coe` of a request. What is None is not sent, and the service decides.

    k: how many experts answer, 1 to 8.
    allow, deny, force: names of experts: no others, none of these, these in any case. include and exclude are other
    names of allow and deny.
    needs: what an expert must be able to do beside text. languages: ISO 639-1 codes, of which it must speak one; an
    empty list for no matter which.
    aggregator: how several drafts become one answer. budget: the most that the answer may cost.
    explain: the answer's route says more of how it came about.
    """

    k: int | None = None
    allow: Sequence[str] | None = None
    deny: Sequence[str] | None = None
    force: Sequence[str] | None = None
    include: Sequence[str] | None = None
    exclude: Sequence[str] | None = None
    needs: Sequence[Need] | None = None
    languages: Sequence[str] | None = None
    aggregator: str | None = None
    budget: Budget | None = None
    explain: bool | None = None

    def __post_init__(self) -> None:
        for name in ("allow", "deny", "force", "include", "exclude", "needs", "languages"):
            if isinstance(value := getattr(self, name), str):
                raise TypeError(f"{name} is a list of names; got the string {value!r}, write [{value!r}]")

    def wire(self) -> dict[str, Any]:
        """As JSON, without what is None."""
        given: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Budget):
                given[field.name] = {k: v for k, v in (("calls", value.calls), ("usd", value.usd)) if v is not None}
            elif isinstance(value, Sequence) and not isinstance(value, str):
                given[field.name] = [*value]
            elif value is not None:
                given[field.name] = value
        return given


class CallFields(TypedDict, total=False):
    """What every method takes beside its own.

    timeout: seconds for all tries of this request together. idempotency_key: instead of one made up.
    extra_headers, extra_body: sent as they are; they win over what the client would send.
    """

    timeout: float
    idempotency_key: str
    extra_headers: Mapping[str, str]
    extra_body: Mapping[str, Any]


class ModelFields(CallFields, total=False):
    """What every method that asks a model takes."""

    model: str
    coe: Options | Mapping[str, Any]
    metadata: Mapping[str, str]
    priority: int
    prompt_cache_key: str
    prompt_cache_retention: str
    safety_identifier: str
    temperature: float
    top_p: float
    user: str


class SampledFields(ModelFields, total=False):
    """What chats and completions take of OpenAI's fields, and top_k, min_p and repetition_penalty of vLLM's."""

    frequency_penalty: float
    logit_bias: Mapping[str, float]
    max_tokens: int
    min_p: float
    n: int
    presence_penalty: float
    repetition_penalty: float
    seed: int
    stop: str | Sequence[str]
    top_k: int


class ChatFields(SampledFields, total=False):
    """OpenAI's fields of a chat, under OpenAI's names. A pydantic class as response_format stands for its schema."""

    logprobs: bool
    max_completion_tokens: int
    parallel_tool_calls: bool
    response_format: Mapping[str, Any] | type[BaseModel]
    tool_choice: str | Mapping[str, Any]
    tools: Sequence[Mapping[str, Any]]
    top_logprobs: int


class ChatRequest(ChatFields):
    """One request of `chat_many`."""

    messages: Messages


class CompletionFields(SampledFields, total=False):
    """OpenAI's fields of a completion.

    logprobs: how many of the likeliest tokens are told beside the one chosen. echo: the prompt stands before the
    answer. best_of: as many as `n`.
    """

    best_of: int
    echo: bool
    logprobs: int


class EmbeddingFields(CallFields, total=False):
    """OpenAI's fields of embeddings. With the encoding base64 less travels; vectors are floats in either case."""

    dimensions: int
    encoding_format: Literal["float", "base64"]
    user: str


class ResponseFields(ModelFields, total=False):
    """OpenAI's fields of a response. A pydantic class as text stands for its schema."""

    instructions: str
    max_output_tokens: int
    parallel_tool_calls: bool
    text: Mapping[str, Any] | type[BaseModel]
    tool_choice: str | Mapping[str, Any]
    tools: Sequence[Mapping[str, Any]]
