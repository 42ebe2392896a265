"""Client of a Composition of Experts. `Coe` blocks, `AsyncCoe` is awaited; `coe_client.errors` lists what they raise.

with Coe() as coe:
    answer = coe.chat("Which SQL lists the users older than 30?")
    print(answer.text, answer.route.reason)
"""

from coe_client.aio import AsyncBatches, AsyncCoe, AsyncFiles, AsyncStream
from coe_client.answers import (
    Answer,
    Choice,
    Decision,
    Embeddings,
    Expert,
    ExpertCall,
    Feedback,
    Health,
    Model,
    Route,
    ToolCall,
    Usage,
)
from coe_client.batch_answers import Batch, DeletedFile, File, Plan, Result
from coe_client.chunks import Chunk, Part, ToolCallPart
from coe_client.client import Batches, Coe, Files, Stream
from coe_client.errors import (
    AuthenticationFailed,
    BadRequest,
    BatchFailed,
    CoeError,
    ConfigError,
    Conflict,
    ConnectionFailed,
    InvalidAnswer,
    NotFound,
    Overloaded,
    PermissionDenied,
    RateLimited,
    ServerError,
    StatusError,
    StreamBroken,
    TimedOut,
    Unavailable,
)
from coe_client.many import Outcome, Progress
from coe_client.options import Budget, ChatRequest, Messages, Options
from coe_client.response_events import ResponseEvent
from coe_client.retries import Backoff
from coe_client.version import VERSION as __version__

__all__ = [
    "Answer",
    "AsyncBatches",
    "AsyncCoe",
    "AsyncFiles",
    "AsyncStream",
    "AuthenticationFailed",
    "Backoff",
    "BadRequest",
    "Batch",
    "BatchFailed",
    "Batches",
    "Budget",
    "ChatRequest",
    "Choice",
    "Chunk",
    "Coe",
    "CoeError",
    "ConfigError",
    "Conflict",
    "ConnectionFailed",
    "Decision",
    "DeletedFile",
    "Embeddings",
    "Expert",
    "ExpertCall",
    "Feedback",
    "File",
    "Files",
    "Health",
    "InvalidAnswer",
    "Messages",
    "Model",
    "NotFound",
    "Options",
    "Outcome",
    "Overloaded",
    "Part",
    "PermissionDenied",
    "Plan",
    "Progress",
    "RateLimited",
    "ResponseEvent",
    "Result",
    "Route",
    "ServerError",
    "StatusError",
    "Stream",
    "StreamBroken",
    "TimedOut",
    "ToolCall",
    "ToolCallPart",
    "Unavailable",
    "Usage",
    "__version__",
]
