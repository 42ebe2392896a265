"""What /v1/routes takes in its query, and what it answers; docs/api.md says what the fields mean."""

from typing import Literal

from pydantic import Field
from typing_extensions import TypedDict

from orchestrator.http.wire_answers import Coe
from orchestrator.http.wire_batches import Query

MOST_ROUTES = 100
"""On a page of a list."""


class RoutesQuery(Query):
    """limit: records on a page. after: the id of the last one of the page before. The others: only records with this
    value; key: the id of the first key of a lineage, empty = any."""

    limit: int = Field(20, ge=1, le=MOST_ROUTES)
    after: str = ""
    expert: str = ""
    category: str = ""
    outcome: str = ""
    model: str = ""
    key: str = ""


class KeyShown(TypedDict):
    id: str
    name: str


class _Summary(TypedDict):
    id: str
    created: float
    model: str
    outcome: str
    key: KeyShown | None
    expert: str | None
    experts: list[str]
    category: str | None
    router: str
    aggregator: str
    reason: str
    margin: float
    seconds: float | None
    first_token_seconds: float | None
    router_seconds: float
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    score: float | None


class RouteSummary(_Summary):
    object: Literal["route.summary"]


class RouteList(TypedDict):
    object: Literal["list"]
    data: list[RouteSummary]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Said(TypedDict):
    at: float
    score: float


class RouteRecord(_Summary):
    object: Literal["route.record"]
    stream: bool
    admission_seconds: float
    prompt: str | None
    feedback: Said | None
    trace_id: str | None
    coe: Coe
