"""The `coe` field of a request: what this service adds to OpenAI's."""

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from experts.registry import did_you_mean
from orchestrator.errors import ApiError, quote
from routers.policies.base import Wish

MAX_K = 8
Language = Annotated[str, Field(pattern=r"^[A-Za-z]{2}([-_][A-Za-z0-9]+)*$")]


class Wire(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Options(Wire):
    @model_validator(mode="before")
    @classmethod
    def _null_is_not_given(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data


class CoeOptions(Options):
    """See docs/policies.md for all but the last two.

    k: how many experts answer; the service's own number if not given.
    allow, deny, force: names of experts: no others, none of these, these in any case.
    needs: what an expert must be able to do beside text. languages: ISO 639-1 codes, of which it must speak one; as the
    prompt is if not given; with an empty list it does not matter.
    aggregator: how the drafts become one answer; the router's choice if not given.
    explain: the answer's `coe` field says more of how it came about.
    """

    k: int | None = Field(None, ge=1, le=MAX_K)
    allow: list[str] | None = Field(None, min_length=1)
    deny: list[str] = []
    force: list[str] = Field([], max_length=MAX_K)
    needs: list[Literal["tools", "image", "audio"]] = []
    languages: list[Language] | None = None
    aggregator: str | None = None
    explain: bool = False

    @property
    def wish(self) -> Wish:
        return Wish(
            allow=None if self.allow is None else frozenset(self.allow),
            deny=frozenset(self.deny),
            force=tuple(dict.fromkeys(self.force)),
            needs=frozenset(self.needs),
            languages=None if self.languages is None else tuple(self.languages),
        )

    @property
    def constraints(self) -> list[str]:
        """The fields that are given and mean something to a router only."""
        return [name for name in ("allow", "deny", "force", "needs", "languages") if name in self.model_fields_set]


def check_names(options: CoeOptions, experts: Collection[str], aggregators: Collection[str]) -> None:
    """Raises ApiError for an aggregator or an expert that does not exist."""
    if options.aggregator is not None and options.aggregator not in aggregators:
        text = f"coe.aggregator: got {quote(options.aggregator)}; allowed are {', '.join(aggregators)}"
        raise ApiError("invalid_value", text, "coe.aggregator")
    for field in ("allow", "deny", "force"):
        for index, name in enumerate(getattr(options, field) or ()):
            if name not in experts:
                param = f"coe.{field}[{index}]"
                text = f"{param}: no expert is named {quote(name)}{did_you_mean(name, experts)}"
                raise ApiError("invalid_value", text, param)
