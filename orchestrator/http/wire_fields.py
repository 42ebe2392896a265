"""OpenAI's fields that are not supported yet, and those that one expert must answer alone."""

from typing import Any

from orchestrator.ensembles import is_ensemble
from orchestrator.errors import ApiError, quote
from orchestrator.http.wire_coe import CoeOptions

NOT_YET: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "modalities": (["text"],),
    "moderation": (),
    "prediction": (),
    "reasoning_effort": ("none",),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "verbosity": ("medium",),
    "web_search_options": (),
    # Of vLLM's server, not of OpenAI's.
    "chat_template_kwargs": ({},),
}
"""Known fields that are not supported yet, with their neutral values besides null."""

NOT_YET_IN_MESSAGE: dict[str, tuple[Any, ...]] = {
    "annotations": ([],),
    "audio": (),
    "function_call": (),
    "reasoning": (),
    "reasoning_content": (),
    "refusal": (),
}
"""The same for a message: clients send an assistant's message back as they got it, with all its empty fields."""


def is_neutral(value: Any, neutral: tuple[Any, ...]) -> bool:
    """Does the value ask for nothing?"""
    if isinstance(value, dict):
        value = {key: own for key, own in value.items() if own is not None}
    # By type too: True == 1 in Python, not on the wire.
    return value is None or any(type(value) is type(other) and value == other for other in neutral)


def refusal(field: str, value: Any, neutral: tuple[Any, ...]) -> ApiError | None:
    """Why a field that is not supported yet cannot have this value; None if it asks for nothing."""
    if is_neutral(value, neutral):
        return None
    allowed = f"; allowed: {', '.join(map(repr, neutral))}" if neutral else "; leave it out"
    return ApiError("unsupported_parameter", f"{field}: {quote(value)} is not supported yet{allowed}", field)


def alone_with(field: str, model: str, coe: CoeOptions) -> None:
    """Raises ApiError where a field that one expert must answer alone comes with what asks several: no aggregator makes
    one call of a tool, one form or one distribution of tokens out of drafts."""
    who = None
    if is_ensemble(model):
        who = f"model {quote(model)}"
    elif coe.k is not None and coe.k > 1:
        who = f"'coe.k' {coe.k}"
    elif len(coe.wish.force) > 1:
        who = "'coe.force'"
    elif coe.aggregator not in (None, "single"):
        who = f"'coe.aggregator' {quote(coe.aggregator)}"
    if who:
        text = f"{field}: one expert alone can answer it, and {who} asks several; leave one of them out"
        raise ApiError("unsupported_parameter", text, field)
