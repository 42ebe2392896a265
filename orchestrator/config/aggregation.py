"""How several drafts become one answer, as coe.yaml says it. docs/aggregation.md tells how to use it."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from experts.spec import Frozen
from orchestrator.config import aggregation_checks as config_aggregation_checks
from orchestrator.config.file import Located
from orchestrator.config.policies import Float, Int
from orchestrator.settings import check_path

AggregatorName = Literal["single", "vote", "judge", "synthesize", "refine", "cascade"]


class PromptsConfig(Frozen):
    """Texts in place of the aggregators' own. A variable is written {question}, other braces twice."""

    judge: str | None = Field(
        None,
        min_length=1,
        description="Scores all drafts. Needs {question}, {drafts} and {form}; may use {dimensions}.",
    )
    compare: str | None = Field(
        None, min_length=1, description="Compares two drafts. Needs {question} and {drafts}; may use {dimensions}."
    )
    synthesize: str | None = Field(
        None, min_length=1, description="Writes an answer from the drafts. Needs {question} and {drafts}."
    )
    refine: str | None = Field(
        None, min_length=1, description="Writes a draft anew with all drafts in view. Needs {question} and {drafts}."
    )

    def given(self) -> dict[str, str]:
        """Name -> text of those that are given."""
        return {name: text for name, text in self.model_dump().items() if text is not None}


class DimensionConfig(Frozen):
    """What a judge looks at in a draft."""

    name: str = Field(min_length=1, description="The key in the judge's reply.")
    question: str = Field(min_length=1, description="What is judged, for the judge.")
    weight: Float = Field(
        1.0,
        ge=0,
        description="Its share of a draft's score. If a rubric has none, those of `profile`, else equal ones.",
    )


Dimensions = tuple[DimensionConfig, ...]


class AggregationConfig(Frozen):
    """How drafts become one answer, wherever several experts answer."""

    expert: str | None = Field(
        None,
        description="Expert that judges and writes. Default: the best at it by `profile`, else the route's best.",
    )
    profile: Annotated[Path, AfterValidator(lambda path: check_path(str(path)))] | None = Field(
        None,
        description="Folder of `coe profile --aggregators`: who judges and writes best in each category, and weights "
        "for rubrics without. Of the service alone.",
    )
    reserve_s: Float | None = Field(
        None,
        gt=0,
        description="Seconds kept of a request's time for each stage after the drafts; drafts that are late are left "
        "out. Default: a quarter of what is left for one stage, two fifths for two.",
    )
    draft_characters: Int = Field(6000, ge=500, description="Characters of a draft that a prompt shows at most.")
    judge_tokens: Int | None = Field(
        None,
        ge=1,
        description="Tokens that a judge may say. Default: what its reply needs; more is for judges that think first.",
    )
    stream_first: bool = Field(
        True,
        description="single: the best expert's words are sent as they come, and the next takes over only before them.",
    )
    waves: bool = Field(
        False,
        description="vote: as few experts are asked as may decide it, then more where they did not: fewer calls, later "
        "answers.",
    )
    pairwise: bool = Field(
        False, description="judge: two drafts at a time, in both orders, which small models do better than scoring."
    )
    layers: Int = Field(
        1, ge=1, le=3, description="refine: times that each expert writes anew with all drafts in view."
    )
    end: Literal["synthesize", "vote", "judge"] = Field(
        "synthesize", description="refine: what makes one answer of the last layer."
    )
    first: Literal["vote", "judge"] = Field("vote", description="cascade: what is tried first.")
    otherwise: Literal["judge", "synthesize", "refine"] = Field(
        "judge", description="cascade: what decides where that finds no answer."
    )
    rubric: Dimensions | None = Field(
        None, min_length=1, description="judge: what it looks at. Default: correctness, completeness and clarity."
    )
    rubrics: dict[str, Dimensions] = Field(
        default_factory=dict, description="judge: the same by category of the route."
    )
    prompts: PromptsConfig = PromptsConfig()

    @model_validator(mode="after")
    def _can_be_used(self) -> Self:
        if found := list(config_aggregation_checks.section(self)):
            raise Located(found)
        return self

    def over(self, service: Self) -> Self:
        """These keys over the service's. Prompts and rubrics one by one."""
        given = {key: getattr(self, key) for key in self.model_fields_set}
        given["rubrics"] = {**service.rubrics, **self.rubrics}
        given["prompts"] = PromptsConfig(**{**service.prompts.given(), **self.prompts.given()})
        return service.model_copy(update=given)


class BudgetConfig(Frozen):
    """The most that a request may cost."""

    calls: Int | None = Field(None, ge=1, description="Calls of experts, those that judge and write included.")
    usd: Float | None = Field(None, gt=0, description="US dollars, by the experts' prices.")


class EnsembleConfig(Frozen):
    """Several experts that answer as one model."""

    description: str = Field("", description="What it is good for, for people.")
    experts: tuple[str, ...] | None = Field(
        None, min_length=2, max_length=8, description="Who answers. Default: the router chooses among all."
    )
    k: Int | None = Field(
        None, ge=2, le=8, description="How many answer. Default: all of `experts`; without these it is required."
    )
    aggregator: AggregatorName = Field(description="How their drafts become one answer.")
    aggregation: AggregationConfig = Field(
        AggregationConfig(), description="Keys that are other than in the service's section."
    )
    budget: BudgetConfig = BudgetConfig()

    @property
    def seats(self) -> int:
        """How many answer where all can."""
        return self.k or len(self.experts or ())
