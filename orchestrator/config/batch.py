"""The section `batch` of coe.yaml. See docs/batch.md."""

from pydantic import Field

from experts.spec import Frozen
from orchestrator.config.policies import Float, Int


class BatchConfig(Frozen):
    """Files, and the batches that are made of them."""

    enabled: bool = Field(True, description="Serve /v1/files and /v1/batches. false: their paths do not exist.")
    run: bool = Field(
        True, description="Work on batches in this process. false: it only takes them, for others to run."
    )
    files_url: str | None = Field(
        None,
        description="Where files and results lie: an fsspec URL, such as s3://bucket/coe, that all gateways share. "
        "Default: a folder under the home folder.",
    )
    file_bytes: Int = Field(200 << 20, ge=1024, description="Bytes of an uploaded file.")
    key_bytes: Int = Field(2 << 30, ge=1024, description="Bytes of all files of an API key.")
    total_bytes: Int = Field(20 << 30, ge=1024, description="Bytes of all files.")
    lines: Int = Field(1_000_000, ge=1, le=10**8, description="Lines of a batch.")
    per_key: Int = Field(100, ge=1, description="Batches of an API key under way; one more is refused (429).")
    planners: Int | None = Field(
        None,
        ge=1,
        le=64,
        description="Processes that plan a batch of many lines, each with a router of its own in memory. 1: this one. "
        "Default: a process for each core, 8 at most.",
    )
    in_flight: Int | None = Field(
        None, ge=1, description="Lines that this process runs at a time in each family. Default: its max_num_seqs."
    )
    beside: Float = Field(
        0.25, gt=0, le=1, description="Share of these lines that run while other requests are under way."
    )
    tries: Int = Field(3, ge=1, le=20, description="Tries of a line that fails through no fault of its own.")
    block: Int = Field(64, ge=1, le=10_000, description="Lines that a runner takes at a time.")
    lease_s: Float = Field(
        30.0, ge=1, le=3600, description="Seconds without a sign of a runner after which others take its lines over."
    )
