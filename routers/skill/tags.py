"""Keywords of the skills that a prompt asks for, named by an expert (Symbolic-MoE, arXiv 2503.05641, section 3.1).

The expert is any model behind an OpenAI-compatible endpoint. Its answer must be a JSON array of short strings and
nothing else: a keyword read out of loose text would be a guess, and guesses become profiles.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.chat import ChatCompletionMessageParam

Tagger = Callable[[Sequence[str]], list[list[str]]]
"""Prompts to the keywords of each, the most important first; an empty list where there are none. May raise TagError."""

MAX_CHARACTERS = 4000
"""Of a prompt that the expert is shown: its topic is clear by then."""

MAX_WORDS = 5
_NOTES = re.compile(r"^.*</think>", re.DOTALL)

_TASK = (
    "Name the skills that are needed to answer the request below: at most {most} of them, the most important first, "
    "each one to three words in lower case, from the general ('algebra') to the special ('modular arithmetic'). "
    'Do not answer the request. Reply with a JSON array of strings only, for example ["algebra", "word problems"].'
)


class TagError(RuntimeError):
    """The expert gave no keywords: it could not be reached, or did not keep to the form when told once more."""


def normalised(keyword: str) -> str:
    """One form for the ways to write a keyword: lower case, single spaces, no underscores or hyphens."""
    return " ".join(re.sub(r"[\s_\-]+", " ", keyword.casefold()).split())


def parse(answer: str, most: int) -> list[str]:
    """The keywords in an expert's answer, normalised, without repetitions.

    What stands up to the last ``</think>`` is the model's own notes and is dropped. Raises ValueError, which says what
    is wrong with the rest, if it is not a JSON array of 1 to `most` strings of 1 to 5 words each.
    """
    text = _NOTES.sub("", answer).strip()
    try:
        found = json.loads(text)
    except ValueError:
        raise ValueError(f"the answer must be a JSON array of strings and nothing else, got {text[:80]!r}") from None
    if not isinstance(found, list) or not all(isinstance(keyword, str) for keyword in found):
        raise ValueError(f"the answer must be an array of strings, got {text[:80]!r}")
    if not 1 <= len(found) <= most:
        raise ValueError(f"the array must hold 1 to {most} keywords, got {len(found)}")
    keywords = [normalised(keyword) for keyword in found]
    bad = [keyword for keyword in keywords if not 1 <= len(keyword.split()) <= MAX_WORDS]
    if bad:
        raise ValueError(f"a keyword has 1 to {MAX_WORDS} words, got {bad[0][:80]!r}")
    return list(dict.fromkeys(keywords))


class ExpertTagger:
    """Asks one expert for the keywords of each prompt. Implements `Tagger`; thread-safe as its client is.

    client: an OpenAI-compatible client; its time-out and retries hold.
    model: name of the expert that names the skills.
    most: keywords of a prompt at most.
    parallel: requests at a time.
    An answer that does not keep to the form is sent back once with the reason. Raises TagError.
    """

    def __init__(self, client: OpenAI, model: str, *, most: int = 5, parallel: int = 8) -> None:
        if most < 1 or parallel < 1:
            raise ValueError(f"most and parallel must be at least 1, got {most} and {parallel}")
        self._client = client
        self._model = model
        self._most = most
        self._parallel = parallel

    def __call__(self, prompts: Sequence[str]) -> list[list[str]]:
        if len(prompts) == 1:
            return [self._one(prompts[0])]
        with ThreadPoolExecutor(self._parallel, thread_name_prefix="tags") as pool:
            return list(pool.map(self._one, prompts))

    def _one(self, prompt: str) -> list[str]:
        messages: list[ChatCompletionMessageParam] = [
            {"role": "system", "content": _TASK.format(most=self._most)},
            {"role": "user", "content": prompt[:MAX_CHARACTERS]},
        ]
        answer = self._ask(messages)
        try:
            return parse(answer, self._most)
        except ValueError as error:
            messages += [
                {"role": "assistant", "content": answer},
                {"role": "user", "content": f"That cannot be read: {error}. Reply with the JSON array only."},
            ]
        try:
            return parse(self._ask(messages), self._most)
        except ValueError as error:
            raise TagError(f"expert {self._model} gave no keywords for {prompt[:60]!r}, asked twice: {error}") from None

    def _ask(self, messages: list[ChatCompletionMessageParam]) -> str:
        from openai import APIError

        try:
            reply = self._client.chat.completions.create(
                model=self._model, messages=messages, temperature=0, max_completion_tokens=512
            )
        except APIError as error:
            raise TagError(f"expert {self._model} cannot be asked for keywords: {error}") from error
        return (reply.choices[0].message.content if reply.choices else None) or ""
