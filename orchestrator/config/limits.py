"""The limits of coe.yaml: of a request, of each API key, and of the service as a whole. See docs/limits.md."""

from typing import Literal

from pydantic import Field

from experts.spec import Frozen
from orchestrator.config.policies import Float, Int


class PerKey(Frozen):
    """Limits of every API key that has none of its own (`coe keys update --limit`). Default: none."""

    requests_per_minute: Int | None = Field(None, ge=1, le=10**9, description="Requests within any minute.")
    requests_per_day: Int | None = Field(None, ge=1, le=10**9, description="Requests within any 24 hours.")
    tokens_per_minute: Int | None = Field(
        None, ge=1, le=10**9, description="Tokens of prompts and answers in a minute."
    )
    tokens_per_day: Int | None = Field(None, ge=1, le=10**9, description="Tokens of prompts and answers in 24 hours.")
    usd_per_minute: Float | None = Field(
        None, gt=0, le=10**9, description="US dollars in a minute, by experts' prices."
    )
    usd_per_day: Float | None = Field(None, gt=0, le=10**9, description="US dollars in 24 hours, by experts' prices.")
    concurrent: Int | None = Field(None, ge=1, le=10**9, description="Requests at a time.")


class WithoutRedis(Frozen):
    """What keys' limits do while Redis is away. open: requests pass uncounted; closed: they are refused (503)."""

    requests: Literal["open", "closed"] = Field("open", description="Limits of requests.")
    tokens: Literal["open", "closed"] = Field("open", description="Limits of tokens.")
    usd: Literal["open", "closed"] = Field("closed", description="Limits of money.")
    concurrent: Literal["open", "closed"] = Field("open", description="Limits of requests at a time.")


class IdempotencyConfig(Frozen):
    """Requests with the header Idempotency-Key."""

    enabled: bool = Field(True, description="Keep their answers; false: the header has no effect.")
    ttl_s: Float = Field(86400.0, ge=1, le=30 * 86400, description="Seconds that an answer is kept.")
    max_bytes: Int = Field(1 << 20, ge=1024, description="Bytes of an answer that is kept.")
    linger_s: Float = Field(
        5.0, ge=0, description="Seconds for which one goes on whose client has left, and might try again."
    )
    without_redis: Literal["open", "closed"] = Field(
        "closed", description="While Redis is away. open: they run as if without the header; closed: refused (503)."
    )


class BreakerConfig(Frozen):
    """When a remote expert is left alone for a while."""

    failures: Int = Field(5, ge=1, description="Failures in a row after which it is.")
    share: Float = Field(0.5, gt=0, le=1, description="Share of its last 20 requests that may fail before it is.")
    cooldown_s: Float = Field(
        30.0, gt=0, description="Seconds until one request may try it again; twice as many after each that fails."
    )
    longest_s: Float = Field(600.0, gt=0, description="The most of these seconds.")


class Limits(Frozen):
    """What a caller may ask for."""

    body_bytes: Int = Field(1 << 20, ge=1024, description="Bytes of a request's body.")
    messages: Int = Field(256, ge=1, description="Messages of a chat.")
    max_tokens: Int = Field(8192, ge=1, description="Tokens of an answer that a caller may ask for.")
    timeout_s: Float = Field(600.0, gt=0, le=86400, description="Seconds until a request without an answer fails.")
    concurrent_requests: Int = Field(256, ge=1, description="Requests that run at a time; others wait their turn.")
    waiting_requests: Int = Field(256, ge=0, description="Requests that wait; of more, some are turned away (429).")
    queue_s: Float = Field(
        30.0, gt=0, description="Seconds that a request is expected to wait at most; else it is turned away (429)."
    )
    keep_alive_s: Float = Field(10.0, gt=0, le=3600, description="Seconds of silence before a stream gets a comment.")
    gateway_s: Float = Field(
        1.0,
        gt=0,
        le=3600,
        description="Seconds that a request may wait for the gateway's own work; else it is turned away at once (429).",
    )
    connections: Int = Field(
        10_000, ge=1, description="Connections that are open at a time; one more is refused (429)."
    )
    body_s: Float = Field(60.0, gt=0, le=3600, description="Seconds for a request's body to arrive, else 408.")
    per_key: PerKey = PerKey()
    without_redis: WithoutRedis = WithoutRedis()
    idempotency: IdempotencyConfig = IdempotencyConfig()
    breaker: BreakerConfig = BreakerConfig()
