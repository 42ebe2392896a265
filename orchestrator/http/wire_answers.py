"""What the API answers, as /openapi.json describes it; docs/api.md says what the fields of `coe` mean.

Each path writes its own answers; tests hold them against these shapes. Further fields may come to them.
"""

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from workers.base import FinishReason, WorkerStats

# Parts


class CachedTokens(TypedDict):
    cached_tokens: int


class TokenUsage(TypedDict):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class CallPhases(TypedDict):
    queue: float
    swap: float
    prefill: float
    decode: float


class ExpertCall(TypedDict):
    expert: str
    role: str
    usage: TokenUsage | None
    seconds: float
    cost: float | None
    error: str | None
    phases: CallPhases | None


class DraftShown(TypedDict):
    expert: str
    text: str


class Explanation(TypedDict):
    weights: dict[str, float]
    skills: dict[str, float]
    candidates: list[str]
    removed: dict[str, str]
    router_seconds: float
    votes: dict[str, float]
    scores: dict[str, float]
    drafts: list[DraftShown]


class Coe(TypedDict):
    request_id: str
    expert: str | None
    experts: list[str]
    category: str | None
    probabilities: dict[str, float]
    margin: float
    reason: str
    router: str
    aggregator: str
    used: list[str]
    failed: dict[str, str]
    usage_by_expert: dict[str, TokenUsage]
    calls: list[ExpertCall]
    note: str
    explain: NotRequired[Explanation]


# Chat and completions


class CalledFunction(TypedDict):
    name: str
    arguments: str


class CalledTool(TypedDict):
    id: str
    type: Literal["function"]
    function: CalledFunction


class AnswerMessage(TypedDict):
    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: NotRequired[list[CalledTool]]


class TopLogprob(TypedDict):
    token: str
    logprob: float
    bytes: list[int]


class ChosenLogprob(TopLogprob):
    top_logprobs: list[TopLogprob]


class ChatLogprobs(TypedDict):
    content: list[ChosenLogprob]
    refusal: None


class ChatChoice(TypedDict):
    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatAnswer(TypedDict):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: TokenUsage
    coe: Coe


class TextLogprobs(TypedDict):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(TypedDict):
    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishReason


class CompletionAnswer(TypedDict):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: TokenUsage
    coe: Coe


class RouteAnswer(Coe):
    object: Literal["route"]
    model: str


# Responses


class OutputText(TypedDict):
    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[Any]


class OutputMessage(TypedDict):
    id: str
    type: Literal["message"]
    status: Literal["completed", "incomplete"]
    role: Literal["assistant"]
    content: list[OutputText]


class OutputCall(TypedDict):
    id: str
    type: Literal["function_call"]
    status: Literal["completed", "incomplete"]
    call_id: str
    name: str
    arguments: str


class InputDetails(TypedDict):
    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(TypedDict):
    reasoning_tokens: int


class ResponseUsage(TypedDict):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class Incomplete(TypedDict):
    reason: Literal["max_output_tokens"]


class ResponseAnswer(TypedDict):
    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["completed", "incomplete"]
    error: None
    incomplete_details: Incomplete | None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    model: str
    output: list[OutputMessage | OutputCall]
    parallel_tool_calls: bool
    previous_response_id: None
    store: Literal[False]
    temperature: float | None
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_p: float | None
    truncation: Literal["disabled"]
    usage: ResponseUsage
    user: str | None
    coe: Coe


# Embeddings


class Embedding(TypedDict):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(TypedDict):
    prompt_tokens: int
    total_tokens: int


class EmbeddingCoe(TypedDict):
    truncated: list[int]
    reads_tokens: int


class EmbeddingAnswer(TypedDict):
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
    coe: EmbeddingCoe


# Feedback


class FeedbackRow(TypedDict):
    id: str
    at: float
    score: float
    expert: str | None
    category: str | None


class FeedbackAnswer(FeedbackRow):
    object: Literal["feedback"]


class ListedFeedback(FeedbackRow):
    prompt: NotRequired[str | None]


class FeedbackList(TypedDict):
    object: Literal["list"]
    data: list[ListedFeedback]


# Models, experts, swaps


class RouterCoe(TypedDict):
    kind: Literal["router"]
    experts: list[str]
    aggregators: list[str]
    settings: dict[str, dict[str, Any]]
    description: str


class BudgetShown(TypedDict):
    calls: int | None
    usd: float | None


class EnsembleCoe(TypedDict):
    kind: Literal["ensemble"]
    experts: list[str]
    k: int
    aggregator: str
    settings: dict[str, Any]
    expert: str | None
    budget: BudgetShown
    description: str


class EncoderCoe(TypedDict):
    kind: Literal["encoder"]
    dimensions: int
    context_length: int


class PriceShown(TypedDict):
    input: float
    output: float


class ExpertCoe(TypedDict):
    kind: Literal["checkpoint", "adapter", "remote"]
    family: str
    description: str
    parameters: int | None
    context_length: int | None
    languages: list[str]
    modalities: list[str]
    tools: bool
    price: PriceShown
    tags: list[str]


class ModelAnswer(TypedDict):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    coe: RouterCoe | EnsembleCoe | EncoderCoe | ExpertCoe


class ModelList(TypedDict):
    object: Literal["list"]
    data: list[ModelAnswer]


class ExpertRow(TypedDict):
    name: str
    kind: Literal["checkpoint", "adapter", "remote"]
    family: str
    state: Literal["ready", "failed", "starting"]
    tier: str | None
    why: str | None
    circuit: Literal["closed", "half_open", "open"] | None
    active: bool
    queued: int
    description: str


class AwayWorker(TypedDict):
    family: str
    why: str


class ExpertList(TypedDict):
    object: Literal["list"]
    data: list[ExpertRow]
    families: dict[str, AwayWorker | WorkerStats]


class SwapRow(TypedDict):
    family: str
    number: int
    at: float
    kind: str
    image: str
    source: str
    target: str
    bytes: int
    seconds: float
    why: str


class SwapList(TypedDict):
    object: Literal["list"]
    data: list[SwapRow]


# Keys


class KeyAnswer(TypedDict):
    object: Literal["key"]
    id: str
    name: str
    prefix: str
    created: float
    expires: float | None
    enabled: bool
    lineage: str
    generation: int
    state: Literal["active", "disabled", "expired"]
    experts: list[str] | Literal["all"]
    ensembles: list[str] | Literal["all"]
    admin: bool
    priority: str
    limits: dict[str, float | None]


class NewKeyAnswer(KeyAnswer):
    key: str


class KeyList(TypedDict):
    object: Literal["list"]
    data: list[KeyAnswer]


class RevokedKey(TypedDict):
    object: Literal["key"]
    id: str
    deleted: Literal[True]


class Applied(TypedDict):
    object: Literal["configuration"]
    dry_run: bool
    added: list[str]
    removed: list[str]
    replaced: list[str]
    changed: list[str]
    needs_restart: list[str]
    new_engines: list[str]
    notes: list[str]


class Used(TypedDict):
    used: float
    limit: float | None


class KeyUsage(TypedDict):
    object: Literal["key.usage"]
    id: str
    usage: dict[str, Used]


class OwnKey(KeyAnswer):
    usage: dict[str, Used]


# Health


class Live(TypedDict):
    status: Literal["live"]


class ReadyState(TypedDict):
    status: Literal["ready", "not_ready"]
    not_ready: dict[str, str]


class HealthState(ReadyState):
    live: Literal[True]
    store: Literal["ok", "unreachable"]
