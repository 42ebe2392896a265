"""What /v1/files and /v1/batches take in their queries and forms, and what they answer."""

from collections import Counter
from typing import Any, Literal, NotRequired, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from typing_extensions import TypedDict

from orchestrator.batch.files import MAX_FILES, Purpose
from orchestrator.batch.lines import Endpoint
from orchestrator.errors import ApiError, quote
from orchestrator.http.reading import from_pydantic
from orchestrator.http.wire_answers import OutputDetails

Q = TypeVar("Q", bound="Query")
Status = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]  # fmt: skip
MOST_BATCHES = 100
"""On a page of a list."""

# Queries


class Query(BaseModel):
    """What may stand behind the `?` of a path."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FileQuery(Query):
    """limit: files on a page. after: the id of the last one of the page before. purpose: of no other; empty = any."""

    limit: int = Field(MAX_FILES, ge=1, le=MAX_FILES)
    after: str = ""
    order: Literal["asc", "desc"] = "desc"
    purpose: str = ""


class BatchQuery(Query):
    """limit: batches on a page. after: the id of the last one of the page before."""

    limit: int = Field(20, ge=1, le=MOST_BATCHES)
    after: str = ""


def query_of(request: Request, kind: type[Q]) -> Q:
    """Raises ApiError for what is unknown, wrong or there twice."""
    given = request.query_params.multi_items()
    for name, times in Counter(name for name, _ in given).items():
        if times > 1:
            raise ApiError("invalid_value", f"{quote(name)}: stands in the query {times} times; once is allowed", name)
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        raise from_pydantic(error) from None


# Files


UploadForm = TypedDict(
    "UploadForm",
    {
        "file": bytes,
        "purpose": Literal["batch"],
        "expires_after[anchor]": NotRequired[Literal["created_at"]],
        "expires_after[seconds]": NotRequired[int],
    },
)


class FileAnswer(TypedDict):
    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    filename: str
    purpose: Purpose
    status: Literal["processed"]
    expires_at: NotRequired[int]


class FileList(TypedDict):
    object: Literal["list"]
    data: list[FileAnswer]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedFile(TypedDict):
    id: str
    object: Literal["file"]
    deleted: Literal[True]


# Batches


class BatchProblem(TypedDict):
    code: str
    message: str
    line: int | None
    param: str | None


class BatchProblems(TypedDict):
    object: Literal["list"]
    data: list[BatchProblem]


class LineCounts(TypedDict):
    total: int
    completed: int
    failed: int


class CachedTokens(TypedDict):
    cached_tokens: int


class BatchUsage(TypedDict):
    input_tokens: int
    input_tokens_details: CachedTokens
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class PlannedGroup(TypedDict):
    stage: Literal["lines", "answers"]
    family: str | None
    expert: str | None
    steps: int
    done: int


class PlanAnswer(TypedDict):
    loads: int
    distinct_experts: int
    seconds: float | None
    seconds_left: float | None
    groups: list[PlannedGroup]


class BatchCoe(TypedDict):
    dry_run: bool
    plan: PlanAnswer | None


class BatchAnswer(TypedDict):
    id: str
    object: Literal["batch"]
    endpoint: Endpoint
    errors: BatchProblems | None
    input_file_id: str
    completion_window: Literal["24h"]
    status: Status
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    expires_at: int
    in_progress_at: int | None
    finalizing_at: int | None
    cancelling_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelled_at: int | None
    request_counts: LineCounts
    usage: BatchUsage
    metadata: dict[str, str] | None
    coe: BatchCoe


class BatchList(TypedDict):
    object: Literal["list"]
    data: list[BatchAnswer]
    first_id: str | None
    last_id: str | None
    has_more: bool


def listed(data: list[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    """A page. It has the shape of FileList and BatchList."""
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return {"object": "list", "data": data, **ends, "has_more": has_more}
