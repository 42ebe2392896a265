"""Files and batches as they come back, and what became of a line."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import Field

from coe_client.answers import Answer, Embeddings, Wire, answer_from, answer_from_response
from coe_client.calls import embeddings_from
from coe_client.errors import CoeError, status_error

ENDS = ("completed", "failed", "expired", "cancelled")


class File(Wire):
    """bytes: its size. created_at: seconds since 1970. purpose: batch, or batch_output for what a batch has made."""

    id: str
    filename: str = ""
    bytes: int = 0
    created_at: int = 0
    purpose: str = ""


class DeletedFile(Wire):
    id: str
    deleted: bool = False


class LineCounts(Wire):
    """Lines: all that the input has once it was read, those with an answer, those without one."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class BatchUsage(Wire):
    """Tokens of all lines that have an answer."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    input_tokens_details: dict[str, Any] = Field(default_factory=dict)

    @property
    def cached_tokens(self) -> int:
        """Of the input those that were computed before."""
        return int(self.input_tokens_details.get("cached_tokens") or 0)


class PlanGroup(Wire):
    """What one expert has to do, and has done. stage: `lines`, or `answers` where it makes one of several drafts."""

    stage: str
    family: str | None = None
    expert: str | None = None
    steps: int = 0
    done: int = 0


class Plan(Wire):
    """How the batch is run. seconds: of all of it and of what is left, None while an expert's rate is not known."""

    loads: int = 0
    distinct_experts: int = 0
    seconds: float | None = None
    seconds_left: float | None = None
    groups: tuple[PlanGroup, ...] = ()


class BatchCoe(Wire):
    dry_run: bool = False
    plan: Plan | None = None


class Batch(Wire):
    """A job of many requests. status: validating, in_progress, finalizing, completed, failed, expired, cancelling or
    cancelled. Times are seconds since 1970. Files that a batch has not, or not yet, are None."""

    id: str
    status: str
    endpoint: str = ""
    input_file_id: str = ""
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int = 0
    expires_at: int | None = None
    completed_at: int | None = None
    request_counts: LineCounts = LineCounts()
    usage: BatchUsage = BatchUsage()
    metadata: dict[str, str] = Field(default_factory=dict)
    errors: dict[str, Any] = Field(default_factory=dict)
    coe: BatchCoe = BatchCoe()

    @property
    def ended(self) -> bool:
        return self.status in ENDS

    @property
    def plan(self) -> Plan | None:
        """None until it is made."""
        return self.coe.plan

    @property
    def problems(self) -> tuple[str, ...]:
        """Why it failed, or does not go on."""
        return tuple(str(problem.get("message")) for problem in self.errors.get("data") or ())


@dataclass(frozen=True)
class Result:
    """What became of a line. custom_id: None where the line had none. line: its number in the input, as far as that is
    told: of lines that were not run. raw: as it came."""

    custom_id: str | None
    outcome: Answer | Embeddings | CoeError
    line: int | None
    raw: Mapping[str, Any]

    @property
    def error(self) -> CoeError | None:
        return self.outcome if isinstance(self.outcome, CoeError) else None

    @cached_property
    def answer(self) -> Answer:
        """Raises the error of a line that has none, and TypeError where it has embeddings."""
        if isinstance(self.outcome, CoeError):
            raise self.outcome
        if not isinstance(self.outcome, Answer):
            raise TypeError("the line has embeddings; take 'embeddings'")
        return self.outcome

    @cached_property
    def embeddings(self) -> Embeddings:
        """Raises the error of a line that has none, and TypeError where it has an answer."""
        if isinstance(self.outcome, CoeError):
            raise self.outcome
        if not isinstance(self.outcome, Embeddings):
            raise TypeError("the line has an answer; take 'answer'")
        return self.outcome

    def __str__(self) -> str:
        return str(self.outcome)


_STATUS = {
    "batch_cancelled": 409,
    "batch_expired": 504,
    "internal_error": 500,
    "model_not_found": 404,
    "request_too_large": 413,
}
"""Statuses of errors of lines that were not run, which have a code alone; others are of the request, 400."""


def result_from(raw: Mapping[str, Any]) -> Result:
    """A line of an output or error file. Raises ValueError, TypeError, KeyError or AttributeError if it is none."""
    custom_id, response = raw.get("custom_id"), raw.get("response")
    if response is None:
        error = raw["error"]
        status = _STATUS.get(error["code"], 400)
        return Result(custom_id, status_error(status, {"error": error}, retry_after=None, request_id=None),
                      error.get("line"), raw)  # fmt: skip
    status, body, request_id = int(response["status_code"]), response["body"], response.get("request_id")
    outcome: Answer | Embeddings | CoeError
    if status >= 300:
        outcome = status_error(status, body, retry_after=None, request_id=request_id)
    elif body.get("object") == "list":
        outcome = embeddings_from(body)
    elif body.get("object") == "response":
        outcome = answer_from_response(body, request_id)
    else:
        outcome = answer_from(body, request_id)
    return Result(custom_id, outcome, None, raw)
