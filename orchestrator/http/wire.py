"""What may come in over HTTP: the bodies of requests. `reading.py` makes them of bytes.

The rule for OpenAI's fields: what is supported is checked; what only labels a request (user, metadata, ...) is accepted
and has no effect; what would change the answer and is not supported yet is an error unless it has its neutral value,
with which nothing is asked for. Any other field is an error that names it and what may have been meant.
Null stands for "not given" in every field that may be left out.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, GetJsonSchemaHandler, field_validator, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from orchestrator.errors import ApiError
from orchestrator.events import AUTO
from orchestrator.http.wire_coe import (
    EMPTY,
    CoeOptions,
    Nullable,
    Options,
    asks_nothing,
    problem_with,
)
from orchestrator.http.wire_fields import NOT_YET
from orchestrator.http.wire_forms import MAX_TOOLS, ResponseFormat, Tool, ToolChoice, tools_of
from orchestrator.http.wire_messages import Message
from workers.base import Form, Sampling, Tools

INT64 = 2**63
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]
MAX_N = 16
MAX_LOGPROBS = 20
MAX_BIASES = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may ask for.

    body_bytes: of the HTTP body. messages: of a chat. max_tokens: of an answer. timeout_s: seconds from admission to
    the end of the answer. keep_alive_s: longest silence on a stream, in seconds.
    """

    body_bytes: int
    messages: int
    max_tokens: int
    timeout_s: float
    keep_alive_s: float


# Frozen, so one of each serves all. Of a default that is written as a value, pydantic makes a deep copy each time.
_NO_OPTIONS, _TEXT = CoeOptions(), ResponseFormat(type="text")


class Generation(Nullable):
    """What every request for text has. not_yet: known fields that are refused, with their neutral values."""

    not_yet: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    @classmethod
    def also(cls) -> Mapping[str, JsonSchemaValue]:
        return asks_nothing(cls.not_yet)

    model: str = Field(min_length=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    stream: bool = False
    user: str | None = None
    priority: int = Field(0, ge=-1000, le=1000, description="vLLM's: lower goes first.")
    coe: CoeOptions = Field(default_factory=lambda: _NO_OPTIONS)
    # Labels. Without effect, but that `user` and metadata's `conversation_id` tell conversations apart.
    metadata: Metadata | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None

    @property
    def conversation(self) -> str | None:
        """The caller's own id of the conversation."""
        return (self.metadata or {}).get("conversation_id")

    @property
    @abstractmethod
    def plain_messages(self) -> tuple[dict[str, Any], ...]:
        """As experts get them."""

    @property
    @abstractmethod
    def sampling(self) -> Sampling:
        """What it asks for, in experts' terms."""

    @property
    def alone(self) -> Sequence[str]:
        """The fields that are given and that one expert must answer alone."""
        return ()

    @property
    def most_tokens(self) -> Mapping[str, int | None]:
        """Field -> the limit of the answer that it sets."""
        return {}

    @property
    def n_answers(self) -> int:
        return 1

    @property
    def called_tools(self) -> Tools | None:
        return None

    @property
    def texts(self) -> tuple[str, ...]:
        """To be continued as they are, in place of messages."""
        return ()

    @property
    def wants_usage(self) -> bool:
        """In a chunk of its own at the end of a stream."""
        return False

    @property
    def prompt(self) -> str:
        """What is to be answered: the last user message, else the last message with text."""
        said = [(message["role"], str(message["content"])) for message in self.plain_messages]
        by_user = [content for role, content in said if role == "user"]
        return by_user[-1] if by_user else [content for _, content in said if content.strip()][-1]

    def check(self) -> None:
        """Raises PydanticCustomError or ApiError for fields that do not go together, once each by itself is right."""
        if problem := problem_with(self.coe, self.model):
            raise PydanticCustomError("coe", "{problem}", {"problem": problem})


Stop = Annotated[str, Field(min_length=1, max_length=1000)]


class StreamOptions(Options):
    include_usage: bool = False
    include_obfuscation: bool = Field(False, description="Accepted; there is no obfuscation.")


_NO_STREAM_OPTIONS = StreamOptions()


class Sampled(Generation):
    """What chats and completions have in common: the sampling fields of OpenAI and of vLLM."""

    max_tokens: int | None = Field(None, ge=1)
    n: int = Field(1, ge=1, le=MAX_N)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    seed: int | None = Field(None, ge=-INT64, lt=INT64 - MAX_N)
    stop: list[Stop] = Field(default_factory=list, max_length=16, json_schema_extra=EMPTY)
    stream_options: StreamOptions = Field(default_factory=lambda: _NO_STREAM_OPTIONS)
    logit_bias: dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Annotated[float, Field(ge=-100, le=100)]] = Field(
        default_factory=dict,
        max_length=MAX_BIASES,
        description="Token id -> bias. Ids are one expert's own, so it must be named.",
        json_schema_extra={"default": {}},
    )
    top_k: int | None = Field(None, ge=-1, le=1 << 20, description="vLLM's, as the next two.")
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=2)

    @field_validator("stop", mode="before", json_schema_input_type=Stop | Annotated[list[Stop], Field(max_length=16)])
    @classmethod
    def _one_stop(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @property
    def n_answers(self) -> int:
        return self.n

    @property
    def wants_usage(self) -> bool:
        return self.stream_options.include_usage

    @property
    def most_tokens(self) -> Mapping[str, int | None]:
        return {"max_tokens": self.max_tokens}

    def sampled(self, logprobs: int | None, form: Form | None, max_tokens: int | None) -> Sampling:
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=max_tokens,
            seed=self.seed,
            stop=tuple(self.stop),
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            logit_bias=tuple((int(token), bias) for token, bias in self.logit_bias.items()),
            logprobs=logprobs,
            form=form,
        )

    def check(self) -> None:
        super().check()
        if not self.stream and "stream_options" in self.model_fields_set:
            text = "stream_options: only allowed with 'stream': true"
            raise ApiError("invalid_value", text, "stream_options")
        if self.logit_bias and self.model == AUTO:
            raise PydanticCustomError("bias", "'logit_bias' needs a named expert: ids of tokens are an expert's own")


class ChatRequest(Sampled):
    """The body of /v1/chat/completions."""

    not_yet = NOT_YET

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=MAX_LOGPROBS)
    response_format: ResponseFormat = Field(default_factory=lambda: _TEXT)
    tools: list[Tool] = Field(default_factory=list, max_length=MAX_TOOLS, json_schema_extra=EMPTY)
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool = True

    def check(self) -> None:
        both = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(both) > 1:
            raise PydanticCustomError("both", "'max_tokens' and 'max_completion_tokens' differ; give one of them")
        if not any(message.content.strip() for message in self.messages):
            raise PydanticCustomError("empty", "'messages' has no text in any message")
        if self.top_logprobs and not self.logprobs:
            raise PydanticCustomError("logprobs", "'top_logprobs' needs 'logprobs': true")
        tools = self.called_tools
        if tools and tools.choice == "required" and self.response_format.form:
            raise PydanticCustomError("forms", "'response_format' does not go with a 'tool_choice' that demands a call")
        super().check()

    @property
    def plain_messages(self) -> tuple[dict[str, Any], ...]:
        return tuple(message.plain() for message in self.messages)

    @property
    def called_tools(self) -> Tools | None:
        return tools_of(self.tools, self.tool_choice, self.parallel_tool_calls)

    @property
    def most_tokens(self) -> Mapping[str, int | None]:
        return {"max_tokens": self.max_tokens, "max_completion_tokens": self.max_completion_tokens}

    @property
    def alone(self) -> Sequence[str]:
        given = {
            "tools": bool(self.tools),
            "response_format": self.response_format.form is not None,
            "logprobs": self.logprobs,
            "n": self.n > 1,
            "logit_bias": bool(self.logit_bias),
        }
        return [field for field, is_given in given.items() if is_given]

    @property
    def sampling(self) -> Sampling:
        return self.sampled(
            self.top_logprobs if self.logprobs else None,
            self.response_format.form,
            self.max_tokens or self.max_completion_tokens,
        )


class RouteRequest(ChatRequest):
    """The body of /v1/route: that of a chat, of which nothing but the messages must be given."""

    model: str = Field(AUTO, min_length=1)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        made = super().__get_pydantic_json_schema__(core_schema, handler)
        own = handler.resolve_ref_schema(made)
        own["properties"]["prompt"] = {"type": "string", "pattern": r"\S", "description": "In place of messages."}
        del own["required"]
        own["oneOf"] = [{"required": ["messages"]}, {"required": ["prompt"]}]
        return made


class FeedbackRequest(Options):
    """What a user says of an answer. id: of the answer, or of its request; then one of score and thumbs."""

    id: str = Field(min_length=1, max_length=100)
    score: float | None = Field(None, ge=0, le=1)
    thumbs: Literal["up", "down"] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.score is None) == (self.thumbs is None):
            raise PydanticCustomError("one", "give one of 'score', from 0 to 1, and 'thumbs', 'up' or 'down'")
        return self

    @property
    def value(self) -> float:
        """In [0, 1]."""
        return float(self.thumbs == "up") if self.score is None else self.score
