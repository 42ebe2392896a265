"""Logs: one JSON object a line on standard error, or coloured lines where a person looks on.

The request id is bound by context variables. Prompts and answers are never passed to a logger; what looks like a key,
a token or a password is masked wherever it stands.
"""

import json
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import Processor

MASK = "[masked]"
_SECRET = re.compile(
    r"""
    \b(?:coe-[A-Za-z0-9_-]{32,}                      # our own keys
      |sk-[A-Za-z0-9_-]{16,} |hf_[A-Za-z0-9]{16,}    # of OpenAI, Anthropic and others; of Hugging Face
      |gh[pousr]_[A-Za-z0-9]{30,} |AKIA[A-Z0-9]{16}  # of GitHub; of AWS
    )
    |(?i:(?<=bearer\ )\s*[^\s'",;]+)                  # whoever's key it is
    |(?<=[Bb]asic\ )(?=[a-z]*[A-Z0-9+/=])[A-Za-z0-9+/=]{8,}
    |(?<=://)[^\s/@:'"]*:[^\s/'"]+(?=@)               # user and password of a URL
    |(?i:(?<=api_key=)|(?<=apikey=)|(?<=password=)|(?<=token=)|(?<=secret=))[^\s&'",;)]+
    """,
    re.VERBOSE,
)
_SECRET_NAME = re.compile(r"(?i)(?:^|[_.-])(?:api_?-?key|password|passwd|secret|authorization|cookie|access_?token)$")
_PLAIN = (bool, int, float, type(None))


_SIGNS = ("coe-", "sk-", "hf_", "gh", "akia", "bearer ", "basic ", "://", "=")
"""One of these stands in every text that `_SECRET` finds something in; looking for them takes a tenth of the time."""


def _has_sign(text: str) -> bool:
    lower = text.lower()
    return any(sign in lower for sign in _SIGNS)


_has_sign_known = lru_cache(4096)(_has_sign)
"""Short texts are mostly names that come again and again."""


def mask(text: str) -> str:
    """The text without API keys, tokens and passwords in URLs."""
    suspicious = _has_sign_known(text) if len(text) <= 100 else _has_sign(text)
    return _SECRET.sub(MASK, text) if suspicious else text


def mask_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """structlog processor: masks secrets in all of an event, however deep, and whatever goes by a secret's name."""
    for key, value in event.items():
        event[key] = _named(key, value)
    return event


@lru_cache(1024)
def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def _named(name: Any, value: Any) -> Any:
    hidden = isinstance(name, str) and isinstance(value, str | bytes) and value and _is_secret(name)
    return MASK if hidden else _masked(value)


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Mapping):
        return {key if isinstance(key, _PLAIN) else _masked(key): _named(key, inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(inner) for inner in value]
    # As the renderer would write it, which comes after this and would not mask it.
    return mask(repr(value))


def _dumps(event: Any, default: Any = repr, **_: Any) -> str:
    try:
        return orjson.dumps(event, default, orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # half of a surrogate pair, or an integer of more than 64 bits
        return json.dumps(event, default=default)


def configure(*, level: str = "INFO", stream: TextIO | None = None, as_json: bool | None = None) -> None:
    """Sets up logging for this process, also for the libraries that use the standard `logging`.

    stream: standard error by default. as_json: by default unless the stream is a terminal.
    Raises ValueError on an unknown level.
    """
    stream = stream or sys.stderr
    if level.upper() not in logging.getLevelNamesMapping():
        raise ValueError(f"log level {level!r}: allowed are debug, info, warning, error, critical")
    as_json = not stream.isatty() if as_json is None else as_json
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    # Plain tracebacks: structlog's own can print local variables, among which are prompts.
    last: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    last += [structlog.processors.format_exc_info, mask_secrets]
    last.append(structlog.processors.JSONRenderer(_dumps) if as_json else structlog.dev.ConsoleRenderer())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
