"""The body of /v1/completions, OpenAI's older form: the rest of a text, or of several."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from orchestrator.errors import ApiError
from orchestrator.http.wire import MAX_LOGPROBS, MAX_N, Sampled
from workers.base import Sampling

MAX_ANSWERS = 64
"""Of a request: its prompts times `n`."""
Prompt = Annotated[str, Field(min_length=1)]


class CompletionRequest(Sampled):
    """The body of /v1/completions: texts that one expert continues, without its chat template.

    best_of: as many as `n`, or not given: no answer is left out. echo: the answer begins with the prompt.
    """

    not_yet: ClassVar[Mapping[str, tuple[Any, ...]]] = {"suffix": ("",), "response_format": ({"type": "text"},)}

    prompt_: list[Prompt] = Field(alias="prompt", min_length=1, max_length=MAX_ANSWERS)
    logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    best_of: int | None = Field(None, ge=1, le=MAX_N)
    echo: bool = False

    @field_validator(
        "prompt_",
        mode="before",
        json_schema_input_type=Prompt | Annotated[list[Prompt], Field(min_length=1, max_length=MAX_ANSWERS)],
    )
    @classmethod
    def _one_prompt(cls, value: Any) -> Any:
        if isinstance(value, list) and any(isinstance(own, int | list) for own in value):
            raise PydanticCustomError(
                "unsupported_parameter", "must be texts; ids of tokens, which are an expert's own, are not supported"
            )
        return [value] if isinstance(value, str) else value

    def check(self) -> None:
        if self.n_answers > MAX_ANSWERS:
            text = f"prompt: there are {len(self.prompt_)}, with 'n' {self.n} each; the limit is {MAX_ANSWERS} in all"
            raise ApiError("invalid_value", text, "prompt")
        if self.best_of not in (None, self.n):
            text = f"best_of: got {self.best_of}; no answer is left out, so it must be {self.n}, as 'n', or not given"
            raise ApiError("unsupported_parameter", text, "best_of")
        if self.echo and self.logprobs is not None:
            text = "echo: not with 'logprobs', as the tokens of the prompt have none here; leave one of them out"
            raise ApiError("unsupported_parameter", text, "echo")
        super().check()

    @property
    def n_answers(self) -> int:
        return self.n * len(self.prompt_)

    @property
    def plain_messages(self) -> tuple[dict[str, Any], ...]:
        """What is routed: all of them together."""
        return ({"role": "user", "content": "\n\n".join(self.prompt_)},)

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(self.prompt_)

    @property
    def alone(self) -> Sequence[str]:
        return ["prompt"]

    @property
    def sampling(self) -> Sampling:
        return self.sampled(self.logprobs, None, self.max_tokens)
