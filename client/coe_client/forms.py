"""What a request carries: JSON, or a form with a file that is read while it is sent and is never in memory whole."""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import httpx

from coe_client.calls import Call, Form
from coe_client.errors import ConfigError


class Load(Protocol):
    """What httpx takes of a request's body, made anew for each try. until: when sending must be done, by `now`."""

    def __call__(self, until: float, now: Callable[[], float]) -> dict[str, Any]: ...


@contextmanager
def loaded(call: Call[Any]) -> Iterator[Load]:
    """The body of a request, for as many tries as it takes. Raises ConfigError for what is no JSON or no file."""
    with ExitStack() as stack:
        if call.form is not None:
            form, file = call.form, stack.enter_context(_opened(call.form))
            yield lambda until, now: {"data": form.fields, "files": {"file": (form.name, _Timed(file, until, now))}}
        else:
            content = encoded(call.body) if call.body is not None else None
            yield lambda until, now: {"content": content}


def encoded(value: Any) -> bytes:
    """JSON on one line. Raises ConfigError."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the request cannot be written as JSON: {error}") from None


@contextmanager
def _opened(form: Form) -> Iterator[BinaryIO]:
    if isinstance(form.source, bytes):
        yield BytesIO(form.source)
    elif isinstance(form.source, Path):
        try:
            file = form.source.open("rb")
        except OSError as error:
            raise ConfigError(f"{form.source}: {error.strerror}") from None
        with file:
            yield file
    else:  # it can be gone through once, and there may be several tries
        with tempfile.TemporaryFile() as made:
            for line in form.source:
                made.write(encoded(line) + b"\n")
            yield made


class _Timed:
    """A file whose reading ends when the time is over: sending has no other limit than that between two pieces."""

    def __init__(self, file: BinaryIO, until: float, now: Callable[[], float]) -> None:
        self._file, self._until, self._now = file, until, now

    def read(self, size: int = -1) -> bytes:
        if self._now() > self._until:
            raise httpx.WriteTimeout("the upload took too long")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
