"""What an expert is. See ``docs/config.md`` for the same fields as a user writes them in ``coe.yaml``."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Kind = Literal["checkpoint", "adapter", "remote"]
Modality = Literal["text", "image", "audio"]

_SUFFIX = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


def parse_count(value: Any) -> Any:
    """``135M`` or ``7B`` as an integer; anything else is left for pydantic to judge."""
    if isinstance(value, bool):
        raise ValueError("a number is wanted, such as 135M")  # Python would take true for 1
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMBT])\s*", value, re.IGNORECASE) if isinstance(value, str) else None
    return round(float(match[1]) * _SUFFIX[match[2].upper()]) if match else value


Count = Annotated[int, BeforeValidator(parse_count), Field(gt=0)]
ExpertName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


class Frozen(BaseModel):
    """Base of all configuration models: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Sampling(Frozen):
    """Generation defaults of an expert. None leaves a value to the checkpoint's own ``generation_config.json``."""

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1)
    repetition_penalty: float | None = Field(None, gt=0, le=2)
    max_tokens: int | None = Field(None, ge=1, description="Default limit of an answer when the caller sets none.")
    stop: tuple[str, ...] = Field((), max_length=16)


class Price(Frozen):
    """US dollars per million tokens."""

    input: float = Field(0.0, ge=0)
    output: float = Field(0.0, ge=0)


class ExpertSpec(Frozen):
    """One expert: a whole LLM that answers chats."""

    name: ExpertName
    kind: Kind = "checkpoint"
    source: str = Field(
        min_length=1,
        description="checkpoint: a folder or a hub id that vLLM loads; adapter: a LoRA folder or hub id; "
        "remote: the import path of a LangChain chat model class, e.g. langchain_openai:ChatOpenAI.",
    )
    family: str | None = Field(
        None, description="Experts of one architecture, shapes, dtype and quantization share a family, thus an engine."
    )
    base: ExpertName | None = Field(None, description="adapter: the checkpoint expert that it sits on.")
    options: dict[str, Any] = Field(
        default_factory=dict,
        repr=False,  # a user may have written a secret here after all
        description="remote: arguments of the chat model class. A value 'env:NAME' is read from the environment "
        "of the worker, so that no secret stands in this file.",
    )
    parameters: Count | None = Field(None, description="Number of weights; 135M and 7B are understood.")
    context_length: Count | None = Field(None, description="Tokens of prompt and answer together.")
    languages: tuple[str, ...] = Field((), description="ISO 639-1 codes; empty = any.")
    modalities: tuple[Modality, ...] = ("text",)
    tools: bool = False
    tool_parser: str | None = Field(
        None,
        description="checkpoint, adapter: vLLM's parser for the calls that it writes, e.g. hermes. Without one it "
        "calls a tool only where the request demands it.",
    )
    price: Price = Price()
    tags: tuple[str, ...] = ()
    description: str = ""
    chat_template: str | None = Field(None, description="A Jinja file instead of the checkpoint's own template.")
    sampling: Sampling = Sampling()

    @model_validator(mode="after")
    def _kind_has_what_it_needs(self) -> Self:
        if self.name == "auto":
            raise ValueError("the name 'auto' is the router's; choose another one")
        if self.kind == "adapter" and self.base is None:
            raise ValueError("an expert of kind 'adapter' needs 'base', the name of the checkpoint expert it sits on")
        if self.kind != "adapter" and self.base is not None:
            raise ValueError(f"'base' is for kind 'adapter', this expert is of kind {self.kind!r}")
        if self.tool_parser is not None and (self.kind == "remote" or not self.tools):
            raise ValueError("'tool_parser' is for an expert that vLLM serves and that has 'tools: true'")
        if self.kind != "remote" and self.options:
            raise ValueError(f"'options' is for kind 'remote', this expert is of kind {self.kind!r}")
        if self.kind == "remote" and not re.fullmatch(r"[\w.]+:\w+", self.source):
            raise ValueError("'source' of a remote expert must be 'package.module:ChatModelClass'")
        return self

    @property
    def family_name(self) -> str:
        """The family, which for an expert that names none is its own: adapters go with their base."""
        return self.family or self.base or self.name
