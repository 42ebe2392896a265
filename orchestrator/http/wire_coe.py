"""The `coe` field of a request: what this service adds to OpenAI's."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from aggregators.settings import LEAST_SEATS
from experts.registry import did_you_mean
from orchestrator.ensembles import is_ensemble
from orchestrator.errors import ApiError, quote
from orchestrator.events import AUTO
from routers.policies.base import Wish
from routers.policies.budget import NO_BOUND, Budget

MAX_K = 8
ALIASES = {"include": "allow", "exclude": "deny"}
"""Other names of fields."""
Language = Annotated[str, Field(pattern=r"^[A-Za-z]{2}([-_][A-Za-z0-9]+)*$")]


EMPTY: JsonDict = {"default": []}
"""What the schema tells of a list that may be left out. As a default itself it would be copied for each request."""


class Wire(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


def one_of(text: str) -> WrapValidator:
    """For a union of types: what fits none of them is told in these words, not by pydantic's names of them."""

    def checked(value: Any, inner: ValidatorFunctionWrapHandler) -> Any:
        try:
            return inner(value)
        except ValidationError:
            raise PydanticCustomError("one_of", "{text}", {"text": text}) from None

    return WrapValidator(checked)


class Nullable(Wire):
    """Null stands for what is not given, in every field that may be left out."""

    @classmethod
    def also(cls) -> Mapping[str, JsonSchemaValue]:
        """Further fields that are taken, with their schemas."""
        return {}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        made = handler(core_schema)
        own = handler.resolve_ref_schema(made)
        for name, schema in own["properties"].items():
            if name not in own.get("required", ()) and {"type": "null"} not in schema.get("anyOf", ()):
                told = {key: schema[key] for key in ("title", "description", "default") if key in schema}
                rest = {key: value for key, value in schema.items() if key not in told}
                own["properties"][name] = {"anyOf": [*rest.get("anyOf", [rest]), {"type": "null"}], **told}
        own["properties"] |= cls.also()
        return made


def asks_nothing(neutral: Mapping[str, tuple[Any, ...]]) -> dict[str, JsonSchemaValue]:
    """Schemas of fields that are taken with these values or null only."""
    return {name: {"enum": [*values, None], "description": "Without effect."} for name, values in neutral.items()}


class Options(Nullable):
    @model_validator(mode="before")
    @classmethod
    def _null_is_not_given(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data


@dataclass(frozen=True, slots=True)
class Names:
    """What a request may name."""

    experts: Collection[str]
    aggregators: Collection[str]


class BudgetOptions(Options):
    """The most that a request may cost. See routers.policies.budget."""

    calls: int | None = Field(None, ge=1)
    usd: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        if self.calls is None and self.usd is None:
            raise PydanticCustomError("empty", "give 'calls', 'usd' or both")
        return self


class CoeOptions(Options):
    """See docs/policies.md for all but the last three.

    k: how many experts answer; the service's own number if not given.
    allow, deny, force: names of experts: no others, none of these, these in any case.
    needs: what an expert must be able to do beside text. languages: ISO 639-1 codes, of which it must speak one; as the
    prompt is if not given; with an empty list it does not matter.
    aggregator: how the drafts become one answer; the router's choice if not given.
    budget: the most calls of experts and the most money, those calls included that make one answer of the drafts.
    explain: the answer's `coe` field says more of how it came about.
    """

    k: int | None = Field(None, ge=1, le=MAX_K)
    allow: list[str] | None = Field(None, min_length=1)
    deny: list[str] = []
    force: list[str] = Field([], max_length=MAX_K)
    needs: list[Literal["tools", "image", "audio"]] = []
    languages: list[Language] | None = None
    aggregator: str | None = None
    budget: BudgetOptions | None = None
    explain: bool = False

    @classmethod
    def also(cls) -> Mapping[str, JsonSchemaValue]:
        names = {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]}
        return {other: {**names, "description": f"Another name of `{name}`."} for other, name in ALIASES.items()}

    @model_validator(mode="before")
    @classmethod
    def _other_names(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        for other, name in ALIASES.items():
            if data.get(other) is not None and data.get(name) is not None:
                raise PydanticCustomError("both", "'{other}' is another name of '{name}'; give one of them",
                                          {"other": other, "name": name})  # fmt: skip
        return {ALIASES.get(key, key): value for key, value in data.items() if key not in ALIASES or value is not None}

    @property
    def wish(self) -> Wish:
        return Wish(
            allow=None if self.allow is None else frozenset(self.allow),
            deny=frozenset(self.deny),
            force=tuple(dict.fromkeys(self.force)),
            needs=frozenset(self.needs),
            languages=None if self.languages is None else tuple(self.languages),
            budget=Budget(self.budget.calls, self.budget.usd) if self.budget else NO_BOUND,
        )

    @property
    def constraints(self) -> list[str]:
        """The fields that are given and mean something to a router only."""
        given = self.model_fields_set
        return [name for name in ("allow", "deny", "force", "needs", "languages", "budget") if name in given]


def problem_with(coe: CoeOptions, model: str) -> str | None:
    """Why these options do not go together, or not with that model."""
    if is_ensemble(model):
        for field in ("k", "aggregator"):
            if field in coe.model_fields_set:
                return f"'coe.{field}' needs model 'auto': {quote(model)} has its own"
    elif model != AUTO:
        if coe.k is not None and coe.k > 1:
            return "'coe.k' above 1 needs model 'auto': one named expert answers alone"
        if given := coe.constraints:
            return f"'coe.{given[0]}' needs model 'auto' or an ensemble: this one is named"
        if coe.aggregator not in (None, "single"):
            return "'coe.aggregator' needs model 'auto': one named expert answers alone"
    if coe.k is not None and len(coe.wish.force) > coe.k:
        return "'coe.force' names more experts than 'coe.k' asks for"
    if coe.k is not None and coe.aggregator is not None and coe.k < (least := LEAST_SEATS.get(coe.aggregator, 2)):
        why = "one draft is the answer" if coe.k == 1 else "of two votes the heavier one always wins"
        return f"'coe.aggregator' {quote(coe.aggregator)} needs 'coe.k' of at least {least}: {why}"
    return None


def as_written(error: ApiError, coe: object) -> ApiError:
    """The same in the words of this `coe` field, where it has a field by its other name."""
    message, param = str(error), error.param
    for other, name in ALIASES.items():
        if isinstance(coe, dict) and coe.get(other) is not None:
            message = message.replace(f"coe.{name}", f"coe.{other}")
            param = param.replace(f"coe.{name}", f"coe.{other}") if param else param
    return ApiError(error.cause, message, param)


def check_names(options: CoeOptions, names: Names) -> None:
    """Raises ApiError for an aggregator or an expert that does not exist."""
    if options.aggregator is not None and options.aggregator not in names.aggregators:
        hint = did_you_mean(options.aggregator, names.aggregators)
        text = f"coe.aggregator: got {quote(options.aggregator)}; allowed are {', '.join(names.aggregators)}{hint}"
        raise ApiError("invalid_value", text, "coe.aggregator")
    for field in ("allow", "deny", "force"):
        for index, name in enumerate(getattr(options, field) or ()):
            if name not in names.experts:
                param = f"coe.{field}[{index}]"
                text = f"{param}: no expert is named {quote(name)}{did_you_mean(name, names.experts)}"
                raise ApiError("invalid_value", text, param)
