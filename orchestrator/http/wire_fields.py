"""OpenAI's fields that are not supported yet, and those that one expert must answer alone."""

from collections.abc import Mapping
from typing import Any

from orchestrator.ensembles import is_ensemble
from orchestrator.errors import ApiError, quote

NOT_YET: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "moderation": (),
    "n": (1,),
    "parallel_tool_calls": (True, False),
    "prediction": (),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
    "web_search_options": (),
    # Of vLLM's server, not of OpenAI's.
    "chat_template_kwargs": ({},),
    "min_p": (0, 0.0),
    "repetition_penalty": (1, 1.0),
    "top_k": (0, -1),
}
"""Known fields that are not supported yet, with their neutral values besides null."""

NOT_YET_IN_MESSAGE: dict[str, tuple[Any, ...]] = {
    "annotations": ([],),
    "audio": (),
    "function_call": (),
    "reasoning": (),
    "reasoning_content": (),
    "refusal": (),
    "tool_call_id": (),
    "tool_calls": ([],),
}
"""The same for a message: clients send an assistant's message back as they got it, with all its empty fields."""

ONE_EXPERT = frozenset(
    ("function_call", "functions", "logprobs", "n", "response_format", "tool_choice", "tools", "top_logprobs")
)
"""Fields whose answer several experts cannot give together: no aggregator makes one call of a tool, one form or one
distribution of tokens out of drafts."""


def is_neutral(value: Any, neutral: tuple[Any, ...]) -> bool:
    """Does the value ask for nothing?"""
    # By type too: True == 1 in Python, not on the wire.
    return value is None or any(type(value) is type(other) and value == other for other in neutral)


def refusal(field: str, value: Any, body: Mapping[str, Any]) -> ApiError | None:
    """Why a field of NOT_YET cannot have this value in this body; None if it asks for nothing."""
    neutral = NOT_YET[field]
    if is_neutral(value, neutral):
        return None
    if field in ONE_EXPERT and (who := _several(body)):
        text = f"{field}: one expert alone can answer it, and {who} asks several"
        return ApiError("unsupported_parameter", f"{text}; leave it out (one expert does not support it yet)", field)
    allowed = f"; allowed: {', '.join(map(repr, neutral))}" if neutral else "; leave it out"
    return ApiError("unsupported_parameter", f"{field}: {quote(value)} is not supported yet{allowed}", field)


def _several(body: Mapping[str, Any]) -> str | None:
    """What of a body, as yet unchecked, asks more than one expert."""
    model, coe = body.get("model"), body.get("coe")
    if isinstance(model, str) and is_ensemble(model):
        return f"model {quote(model)}"
    k = coe.get("k") if isinstance(coe, dict) else None
    return f"'coe.k' {quote(k)}" if isinstance(k, int) and k > 1 else None
