"""Logs: one JSON object a line on standard error, or coloured lines where a person looks on.

The request id is bound by context variables. Prompts and answers are never passed to a logger; what looks like an API
key is masked wherever it stands.
"""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog
from structlog.typing import Processor

_SECRET = re.compile(r"coe-[A-Za-z0-9_-]{32,}|(?i:(?<=bearer )\s*\S+)")
MASK = "[masked]"


def mask(text: str) -> str:
    """The text without API keys and bearer tokens."""
    return _SECRET.sub(MASK, text)


def mask_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """structlog processor: masks keys in all strings of an event, however deep."""
    for key, value in event.items():
        event[key] = _masked(value)
    return event


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {_masked(key): _masked(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(inner) for inner in value]
    if isinstance(value, BaseException):
        return mask(repr(value))
    return value


def configure(*, level: str = "INFO", stream: TextIO | None = None, json: bool | None = None) -> None:
    """Sets up logging for this process, also for the libraries that use the standard `logging`.

    stream: standard error by default. json: by default unless the stream is a terminal.
    Raises ValueError on an unknown level.
    """
    stream = stream or sys.stderr
    if level.upper() not in logging.getLevelNamesMapping():
        raise ValueError(f"log level {level!r}: allowed are debug, info, warning, error, critical")
    as_json = not stream.isatty() if json is None else json
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
    last.append(structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer())
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
