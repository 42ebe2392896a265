"""What comes back. Whatever of it this package does not name is in `raw`, or is an attribute of the same name."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Parsed = TypeVar("Parsed", bound=BaseModel)


class Wire(BaseModel):
    """A JSON object of the service. Fields that came and are not named here are kept as attributes."""

    # A service of a later version may send more; a null is the same as nothing.
    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _null_is_not_given(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data


class Usage(Wire):
    """Tokens; of an answer of several experts the sum of all calls."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: dict[str, Any] = {}
    completion_tokens_details: dict[str, Any] = {}

    @property
    def cached_tokens(self) -> int:
        """Of the prompt's tokens those that were computed before."""
        return int(self.prompt_tokens_details.get("cached_tokens") or 0)


class ExpertCall(Wire):
    """One call of an expert. cost: US dollars, None if the expert has no price. seconds: how long it took; phases: how
    many of them were spent in the engine on what."""

    expert: str
    role: str = "answer"
    usage: Usage | None = None
    seconds: float | None = None
    cost: float | None = None
    error: str | None = None
    phases: dict[str, float] | None = None


class Route(Wire):
    """Who was asked, and why; of an answer also who took part and what each call cost. docs/api.md has every field."""

    request_id: str | None = None
    expert: str | None = None
    experts: tuple[str, ...] = ()
    category: str | None = None
    probabilities: dict[str, float] = {}
    margin: float | None = None
    reason: str = ""
    router: str | None = None
    aggregator: str | None = None
    used: tuple[str, ...] = ()
    failed: dict[str, str] = {}
    usage_by_expert: dict[str, Usage] = {}
    calls: tuple[ExpertCall, ...] = ()
    note: str = ""
    explain: dict[str, Any] | None = None

    @property
    def cost(self) -> float | None:
        """US dollars of all calls whose expert has a price; None if no one's has."""
        costs = [call.cost for call in self.calls if call.cost is not None]
        return sum(costs) if costs else None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model asks for. arguments: JSON as the model wrote it, which may be wrong."""

    id: str
    name: str
    arguments: str

    @property
    def parsed(self) -> Any:
        """The arguments as Python. Raises ValueError if they are not JSON."""
        return json.loads(self.arguments or "{}")


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the `n` answers. finish_reason: None if it was cut. logprobs: in OpenAI's form."""

    index: int
    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    refusal: str | None = None
    logprobs: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Answer:
    """An answer of chat, completions or responses.

    model: the expert that answered; what was asked for if it is nobody's answer alone.
    choices: one or, with `n`, several; text, tool_calls, finish_reason and logprobs are the first one's.
    usage, route: None if the service did not tell. raw: the JSON as it came; of a stream the same put together.
    """

    id: str
    model: str
    choices: tuple[Choice, ...]
    usage: Usage | None
    route: Route | None
    request_id: str | None
    raw: Mapping[str, Any]

    @property
    def text(self) -> str:
        return self.choices[0].text if self.choices else ""

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return self.choices[0].tool_calls if self.choices else ()

    @property
    def finish_reason(self) -> str | None:
        return self.choices[0].finish_reason if self.choices else None

    @property
    def logprobs(self) -> Mapping[str, Any] | None:
        return self.choices[0].logprobs if self.choices else None

    @property
    def cost(self) -> float | None:
        """US dollars, None where no expert has a price."""
        return self.route.cost if self.route else None

    @cached_property
    def message(self) -> dict[str, Any]:
        """The first choice as a message, to go on with: `messages.append(answer.message)`."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.tool_calls:
            calls = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in self.tool_calls
            ]
            message |= {"content": self.text or None, "tool_calls": calls}
        return message

    @property
    def items(self) -> list[dict[str, Any]]:
        """Of a response what it put out, to go on with: `input += answer.items`. Of others nothing."""
        return [*(self.raw.get("output") or ())]

    def parse(self, kind: type[Parsed]) -> Parsed:
        """The text as a pydantic object. Raises pydantic's ValidationError."""
        return kind.model_validate_json(self.text)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Embeddings:
    """vectors: one for each input, in its order. truncated: which inputs have more tokens than the encoder reads."""

    vectors: tuple[tuple[float, ...], ...]
    model: str
    usage: Usage | None
    truncated: tuple[int, ...]
    raw: Mapping[str, Any]


class Model(Wire):
    """What may be written as `model`. coe: what it does: kind, description, experts, languages, price, ..."""

    id: str
    created: int = 0
    owned_by: str = ""
    coe: dict[str, Any] = {}


class Expert(Wire):
    """The state of an expert. state: ready, starting or failed, and then `why`. queued: unfinished requests."""

    name: str
    state: str
    kind: str | None = None
    family: str | None = None
    tier: str | None = None
    why: str | None = None
    active: bool = False
    queued: int = 0
    description: str = ""


class Health(Wire):
    """status: ready or not_ready. not_ready: expert -> why it cannot answer. store: ok or unreachable."""

    status: str
    live: bool = False
    not_ready: dict[str, str] = {}
    store: str | None = None

    @property
    def ready(self) -> bool:
        return self.status == "ready"


class Feedback(Wire):
    """The row that is kept. score: 0 to 1."""

    id: str
    score: float
    at: float | None = None
    expert: str | None = None
    category: str | None = None


class Decision(Wire):
    """A decision record: who answered a request, why, and how it went. Times are seconds, `created` is Unix time.

    outcome: ok, routed (nothing was generated), client_gone, or the cause of an error. key: id and name of the lineage
    of the API key. cost: US dollars. score: what a user said, 0 to 1. In a list these are None: stream, prompt,
    feedback, trace_id, admission_seconds and route, which has the reasons and the calls.
    """

    id: str
    created: float
    outcome: str
    model: str | None = None
    key: dict[str, str] | None = None
    expert: str | None = None
    experts: tuple[str, ...] = ()
    category: str | None = None
    router: str | None = None
    aggregator: str | None = None
    reason: str = ""
    margin: float | None = None
    seconds: float | None = None
    first_token_seconds: float | None = None
    router_seconds: float | None = None
    admission_seconds: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    score: float | None = None
    stream: bool | None = None
    prompt: str | None = None
    feedback: dict[str, float] | None = None
    trace_id: str | None = None
    route: Route | None = Field(None, alias="coe")


def answer_from(raw: Mapping[str, Any], request_id: str | None = None) -> Answer:
    """An answer from a `chat.completion` or a `text_completion`. Raises ValueError if it is none."""
    return _answer(raw, tuple(_choice(choice) for choice in _list(raw, "choices")), raw.get("usage"), request_id)


def answer_from_response(raw: Mapping[str, Any], request_id: str | None = None) -> Answer:
    """An answer from a `response`: its texts joined, its function calls as tool calls. Raises ValueError."""
    texts: list[str] = []
    refusals: list[str] = []
    calls: list[ToolCall] = []
    for item in _list(raw, "output"):
        if item.get("type") == "message":
            for part in item.get("content") or ():
                if part.get("type") == "output_text":
                    texts.append(part["text"])
                elif part.get("type") == "refusal":
                    refusals.append(part["refusal"])
        elif item.get("type") == "function_call":
            calls.append(ToolCall(str(item.get("call_id", "")), str(item.get("name", "")), item.get("arguments") or ""))
    why = (raw.get("incomplete_details") or {}).get("reason")
    ended = {"completed": "tool_calls" if calls else "stop", "incomplete": "length"}.get(raw.get("status", ""))
    if why == "content_filter":
        ended = why
    choice = Choice(0, "".join(texts), tuple(calls), ended, "".join(refusals) or None)
    return _answer(raw, (choice,), usage_of_response(raw.get("usage")), request_id)


def usage_of_response(used: Any) -> dict[str, Any] | None:
    """The tokens of a `response` under the names of the older protocols."""
    if not isinstance(used, Mapping):
        return None
    return {
        "prompt_tokens": used.get("input_tokens"),
        "completion_tokens": used.get("output_tokens"),
        "total_tokens": used.get("total_tokens"),
        "prompt_tokens_details": used.get("input_tokens_details"),
        "completion_tokens_details": used.get("output_tokens_details"),
    }


def tool_calls_from(calls: Iterable[Mapping[str, Any]] | None) -> tuple[ToolCall, ...]:
    """OpenAI's `tool_calls` of a message."""
    made = []
    for call in calls or ():
        function = call.get("function") or {}
        made.append(
            ToolCall(str(call.get("id") or ""), str(function.get("name") or ""), function.get("arguments") or "")
        )
    return tuple(made)


def _answer(
    raw: Mapping[str, Any], choices: tuple[Choice, ...], used: Mapping[str, Any] | None, request_id: str | None
) -> Answer:
    route = Route.model_validate(raw["coe"]) if isinstance(raw.get("coe"), Mapping) else None
    return Answer(
        id=str(raw.get("id") or ""),
        model=str(raw.get("model") or ""),
        choices=choices,
        usage=Usage.model_validate(used) if used else None,
        route=route,
        request_id=(route and route.request_id) or request_id,
        raw=raw,
    )


def _choice(choice: Mapping[str, Any]) -> Choice:
    message = choice.get("message")
    if not isinstance(message, Mapping):  # a text_completion has the text in its place
        if not isinstance(choice.get("text"), str):
            raise ValueError("a choice has neither 'message' nor 'text'")
        message = {"content": choice["text"]}
    return Choice(
        index=int(choice.get("index") or 0),
        text=_content(message.get("content")),
        tool_calls=tool_calls_from(message.get("tool_calls")),
        finish_reason=choice.get("finish_reason"),
        refusal=message.get("refusal"),
        logprobs=choice.get("logprobs"),
    )


def _content(content: object) -> str:
    if isinstance(content, str) or content is None:
        return content or ""
    if isinstance(content, Sequence):
        return "".join(part.get("text") or "" for part in content if isinstance(part, Mapping))
    raise ValueError(f"content: must be a string or a list of parts; got {type(content).__name__}")


def _list(raw: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = raw.get(name)
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise ValueError(f"'{name}' must be a list of objects")
    return value


def first_problem(error: ValidationError) -> str:
    """pydantic's first complaint in a line."""
    told = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(map(str, told['loc'])) or 'the whole'}: {told['msg']}"
