"""/v1/embeddings: vectors of texts by the encoder of the service's router."""

import asyncio
import base64
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.errors import ApiError, quote
from orchestrator.events import AUTO, Ask
from orchestrator.http.reading import deadline, from_pydantic, json_object, read_body
from orchestrator.http.wire import Limits
from orchestrator.http.wire_coe import Options
from orchestrator.keys import KeyInfo
from orchestrator.pipeline import Pipeline
from routers.encoders.base import MAX_CHARACTERS, TokenEncoder

MAX_TEXTS = 256
Text = Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]
Texts = Annotated[list[Text], Field(min_length=1, max_length=MAX_TEXTS)]


class EmbeddingRequest(Options):
    """dimensions: the encoder's own, or not given: its vectors cannot be cut."""

    model: str = Field(min_length=1)
    input: list[Text] = Field(min_length=1, max_length=MAX_TEXTS)
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)
    user: str | None = None

    @field_validator("input", mode="before", json_schema_input_type=Text | Texts)
    @classmethod
    def _texts(cls, value: Any) -> Any:
        if isinstance(value, list) and any(isinstance(own, int | list) for own in value):
            raise PydanticCustomError("unsupported_parameter", "must be texts; tokens are not supported")
        return [value] if isinstance(value, str) else value


class Embeddings:
    """The method of the path. encoder: None for a service whose router has none."""

    def __init__(self, encoder: TokenEncoder | None, pipeline: Pipeline, limits: Limits) -> None:
        self.encoder, self._pipeline, self._limits = encoder, pipeline, limits

    async def create(self, request: Request) -> Response:
        """POST /v1/embeddings. Raises ApiError, and what `Pipeline.counted` raises."""
        body = parse_embedding(json_object(await read_body(request, self._limits.body_bytes)))
        content = await self.answer(body, self._ask(request, body))
        return Response(content, media_type="application/json")

    async def answer(self, body: EmbeddingRequest, ask: Ask) -> bytes:
        """JSON. Raises ApiError, and what `Pipeline.counted` raises."""
        encoder = self.check(body)
        tokens = await asyncio.to_thread(encoder.tokens, body.input)  # the longest body takes its time
        async with self._pipeline.counted(ask, _read(tokens, encoder.reads)):
            return await asyncio.to_thread(_answer, encoder, body, tokens)

    def check(self, body: EmbeddingRequest) -> TokenEncoder:
        """The encoder that is asked for. Raises ApiError."""
        return encoder_for(body, self.encoder)

    def _ask(self, request: Request, body: EmbeddingRequest) -> Ask:
        caller: KeyInfo = request.state.caller
        return Ask(
            request_id=request.state.request_id,
            model=body.model,
            messages=(),
            prompt="",
            deadline=deadline(request, self._limits.timeout_s),
            caller=caller.lineage,
            caller_name=caller.name,
            grant=caller.grant,
        )


def encoder_for(body: EmbeddingRequest, encoder: TokenEncoder | None) -> TokenEncoder:
    """The service's encoder, if the request asks for it. Raises ApiError."""
    if encoder is None:
        text = "this service has no encoder: its router is of the kind 'fixed'"
        raise ApiError("model_not_found", text, "model")
    if body.model not in (encoder.name, AUTO):
        text = f"no encoder is named {quote(body.model)}; there is {encoder.name!r}, which 'auto' means too"
        raise ApiError("model_not_found", text, "model")
    if body.dimensions not in (None, encoder.dim):
        text = f"dimensions: got {body.dimensions}; {encoder.name} has {encoder.dim}"
        raise ApiError("invalid_value", text, "dimensions")
    return encoder


def parse_embedding(data: dict[str, Any]) -> EmbeddingRequest:
    """Of JSON that was read already. Raises ApiError (400)."""
    try:
        return EmbeddingRequest.model_validate(data)
    except ValidationError as error:
        raise from_pydantic(error) from None


def _read(tokens: Sequence[int], most: int) -> int:
    return sum(min(count, most) for count in tokens)


def _answer(encoder: TokenEncoder, body: EmbeddingRequest, tokens: Sequence[int]) -> bytes:
    vectors, used = encoder.encode(body.input), _read(tokens, encoder.reads)
    written = [_base64(row) if body.encoding_format == "base64" else row for row in vectors]
    content = {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(written)],
        "model": encoder.name,
        "usage": {"prompt_tokens": used, "total_tokens": used},
        "coe": {"truncated": _longer(tokens, encoder.reads), "reads_tokens": encoder.reads},
    }
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def _base64(vector: NDArray[np.float32]) -> str:
    """Little-endian, as OpenAI's clients read it."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _longer(tokens: Sequence[int], most: int) -> list[int]:
    """Which texts have more tokens than are read."""
    return [index for index, count in enumerate(tokens) if count > most]
