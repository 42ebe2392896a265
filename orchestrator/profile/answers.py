"""The answers of a profile run: one line for each question and expert, appended and synced as they come.

What stands there is never asked again, so a run that was killed goes on where it was. The last line may be torn by the
kill; it is cut off.

`AnswersError`   the file cannot be used
"""

import fcntl
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

NAME = "answers.jsonl"


class AnswersError(RuntimeError):
    """The file of answers cannot be used. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Given:
    """What an expert answered. digest: of what it was asked; failure: the code of an expected failure, without a text.

    seconds, first_token_seconds: from the question to the end and to the first token; load_seconds: to bring the
    expert's weights to the device, where this answer was the first to see it; at: Unix time in seconds.
    """

    prompt_id: str
    expert: str
    digest: str
    text: str = ""
    failure: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    first_token_seconds: float | None = None
    load_seconds: float | None = None
    at: float = 0.0

    @property
    def key(self) -> tuple[str, str]:
        return self.prompt_id, self.expert


class Answers:
    """The file in `folder`, open for one run at a time. Raises AnswersError where another run has it, or a line of it
    is damaged."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / NAME
        self._file = self.path.open("a+b")
        try:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AnswersError(
                    f"another run is writing to {self.path}; wait for it, or use another folder"
                ) from None
            self.known = self._read()
        except BaseException:
            self._file.close()
            raise

    def _read(self) -> dict[tuple[str, str], Given]:
        self._file.seek(0)
        whole, torn = 0, False
        known: dict[tuple[str, str], Given] = {}
        for number, line in enumerate(self._file, 1):
            if torn := not line.endswith(b"\n"):
                break
            whole += len(line)
            try:
                given = Given(**orjson.loads(line))
            except (ValueError, TypeError) as error:
                raise AnswersError(f"{self.path}, line {number}: {error}; mend the line or delete it") from None
            known.setdefault(given.key, given)
        if torn:
            self._file.truncate(whole)
        return known

    def add(self, given: Given) -> None:
        """Writes a line, unless there is one for its question and expert. It is on the disk when this returns."""
        if given.key in self.known:
            return
        self._file.write(orjson.dumps(asdict(given)) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.known[given.key] = given

    def __iter__(self) -> Iterator[Given]:
        return iter(self.known.values())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
