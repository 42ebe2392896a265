"""A steady load by the official client, which counts every answer and every failure."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import openai
from openai.types.chat import ChatCompletionMessageParam

from benchmarks.live import Live

WORDS = " ".join(["word"] * 20)


@dataclass
class Load:
    """Asks these models all the time. answers: (model, tokens); failures: model -> what was raised."""

    live: Live
    models: list[str]
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    failures: list[tuple[str, str]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def ask(self, model: str) -> None:
        with openai.OpenAI(base_url=self.live.base_url, api_key=self.live.key, max_retries=0, timeout=60) as client:
            while not self.over.is_set():
                try:
                    self.once(client, model)
                except openai.OpenAIError as error:
                    self.failures.append((model, f"{getattr(error, 'code', '')}: {error}"))

    def once(self, client: openai.OpenAI, model: str) -> None:
        messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": WORDS}]
        if len(self.answers) % 2:
            answer = client.chat.completions.create(model=model, messages=messages)
            assert answer.usage is not None
            self.answers[model, answer.usage.completion_tokens] += 1
            return
        stream = client.chat.completions.create(
            model=model, messages=messages, stream=True, stream_options={"include_usage": True}
        )
        for chunk in stream:
            if chunk.usage is not None:
                self.answers[model, chunk.usage.completion_tokens] += 1

    @contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self.ask, args=(model,)) for model in self.models]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.over.set()
            for thread in threads:
                thread.join()
