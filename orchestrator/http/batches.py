"""/v1/batches: jobs of many requests, as OpenAI has them. docs/batch.md describes them."""

import asyncio
from dataclasses import replace
from typing import Any, Literal

import orjson
from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.batch.files import Files, UnknownFile
from orchestrator.batch.jobs import TIMES, Caller, Job, Jobs, TooManyJobs, UnknownJob
from orchestrator.batch.lines import Endpoint
from orchestrator.batch.plan import NOBODY, loads, seconds
from orchestrator.batch.runner import Runner
from orchestrator.batch.service import Batches
from orchestrator.errors import ApiError, quote
from orchestrator.http import wire_batches as told
from orchestrator.http.files import EXPIRY_S, FileRoutes
from orchestrator.http.reading import from_pydantic, json_object, read_body
from orchestrator.http.routes import Path
from orchestrator.http.wire import Metadata
from orchestrator.http.wire_coe import Options
from orchestrator.keys import KeyInfo


class BatchOptions(Options):
    """dry_run: the batch ends when it is planned; its `coe.plan` says what it would take."""

    dry_run: bool = False


class OutputExpiry(Options):
    """The files that the batch makes end so many seconds after they were made."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=EXPIRY_S[0], le=EXPIRY_S[1])


class BatchRequest(Options):
    """The body of /v1/batches."""

    input_file_id: str = Field(min_length=1, max_length=100)
    endpoint: Endpoint
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: OutputExpiry | None = None
    coe: BatchOptions = BatchOptions()


def batch_paths(batches: Batches, body_bytes: int) -> tuple[Path, ...]:
    """Those of files and of batches."""
    made = BatchRoutes(batches.jobs, batches.files, batches.runner, body_bytes)
    return (*FileRoutes(batches.files).paths(), *made.paths())


class BatchRoutes:
    """The methods of the paths. Another key's batches are as unknown as those that are not there."""

    def __init__(self, jobs: Jobs, files: Files, runner: Runner | None, body_bytes: int) -> None:
        self._jobs, self._files, self._runner, self._body_bytes = jobs, files, runner, body_bytes

    def paths(self) -> tuple[Path, ...]:
        every, one = "/v1/batches", "/v1/batches/{batch_id}"
        none, refused = ("batch_not_found",), ("file_not_found", "too_many_batches", "storage_full")
        return (
            Path(every, "POST", self.create, body=BatchRequest, answer=told.BatchAnswer, errors=refused),
            Path(every, "GET", self.list, query=told.BatchQuery, answer=told.BatchList, errors=none),
            Path(one, "GET", self.one, answer=told.BatchAnswer, errors=none),
            Path(f"{one}/cancel", "POST", self.cancel, answer=told.BatchAnswer, errors=none),
        )

    async def create(self, request: Request) -> Response:
        """POST /v1/batches"""
        try:
            body = BatchRequest.model_validate(json_object(await read_body(request, self._body_bytes)))
        except ValidationError as error:
            raise from_pydantic(error) from None
        caller: KeyInfo = request.state.caller
        whose = Caller(caller.lineage, caller.name, caller.grant)
        try:
            name = await asyncio.to_thread(self._files.name, caller.lineage, body.input_file_id)
            job = await self._jobs.create(
                whose,
                body.endpoint,
                body.input_file_id,
                name,
                metadata=body.metadata,
                plan_only=body.coe.dry_run,
                output_s=body.output_expires_after and body.output_expires_after.seconds,
            )
        except (UnknownFile, FileNotFoundError):
            text = f"there is no file {quote(body.input_file_id)}; upload it to /v1/files first"
            raise ApiError("file_not_found", text, "input_file_id") from None
        except TooManyJobs as error:
            raise ApiError("too_many_batches", str(error)) from None
        if self._runner is not None:
            self._runner.wake()
        return await self._answer(job)

    async def list(self, request: Request) -> Response:
        """GET /v1/batches: the newest first."""
        query, owner = told.query_of(request, told.BatchQuery), request.state.caller.lineage
        if query.after:
            await self._found(request, query.after, "after")
        found = await self._jobs.newest(owner, query.limit + 1, query.after)
        rates = await self._jobs.rates()
        page = [batch_field(job, rates) for job in found[: query.limit]]
        return _json(told.listed(page, len(found) > query.limit))

    async def one(self, request: Request) -> Response:
        """GET /v1/batches/{batch_id}"""
        return await self._answer(await self._found(request, request.path_params["batch_id"]))

    async def cancel(self, request: Request) -> Response:
        """POST /v1/batches/{batch_id}/cancel. What is done by then is in its files."""
        job = await self._found(request, request.path_params["batch_id"])
        if job.status in ("validating", "in_progress"):
            job = await self._jobs.cancel(job.made.id)
            if self._runner is not None:
                self._runner.wake()
        return await self._answer(job)

    async def _found(self, request: Request, batch_id: str, param: str | None = None) -> Job:
        try:
            return await self._jobs.get(batch_id, request.state.caller.lineage)
        except UnknownJob:
            raise ApiError("batch_not_found", f"there is no batch {quote(batch_id)}", param) from None

    async def _answer(self, job: Job) -> Response:
        return _json(batch_field(job, await self._jobs.rates()))


def batch_field(job: Job, rates: dict[str, float]) -> dict[str, Any]:
    """OpenAI's batch object, and the plan under `coe`. rates: expert -> steps a second."""
    made = job.made
    return {
        "id": made.id,
        "object": "batch",
        "endpoint": made.endpoint,
        "errors": {"object": "list", "data": list(job.problems)} if job.problems else None,
        "input_file_id": made.input_file_id,
        "completion_window": "24h",
        "status": job.status,
        "output_file_id": job.output_file_id,
        "error_file_id": job.error_file_id,
        "created_at": made.created_ms // 1000,
        "expires_at": made.expires_ms // 1000,
        **{f"{status}_at": job.times[status] // 1000 if status in job.times else None for status in TIMES},
        "request_counts": {"total": job.total, "completed": job.completed, "failed": job.failed},
        "usage": {
            "input_tokens": job.tokens.input,
            "input_tokens_details": {"cached_tokens": job.tokens.cached},
            "output_tokens": job.tokens.output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": job.tokens.input + job.tokens.output,
        },
        "metadata": made.metadata,
        "coe": {"dry_run": made.plan_only, "plan": _plan_field(job, rates) if job.groups else None},
    }


def _plan_field(job: Job, rates: dict[str, float]) -> dict[str, Any]:
    left = [replace(group, steps=group.steps - done) for group, done in zip(job.groups, job.done, strict=True)]
    known = {group.expert for group in job.groups if group.expert != NOBODY}
    return {
        "loads": loads(job.groups),
        "distinct_experts": len(known),
        "seconds": seconds(job.groups, rates, {}),
        "seconds_left": seconds(left, rates, {}),
        "groups": [
            {
                "stage": "answers" if group.stage == 2 else "lines",
                "family": group.family or None,
                "expert": group.expert or None,
                "steps": group.steps,
                "done": done,
            }
            for group, done in zip(job.groups, job.done, strict=True)
        ],
    }


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
