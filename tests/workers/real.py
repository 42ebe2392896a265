"""Real experts for tests of the real engine: the starter pool, and what each of its checkpoints says alone."""

import asyncio
import os
import random
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from experts import starter
from experts.domains import domain
from experts.spec import ExpertSpec
from tests.processes import descendants
from workers.base import ChatCall, Delta, Event, Failure, Finish, Sampling
from workers.chat import ExpertChat
from workers.vllm_engine import VllmEngine
from workers.worker import Worker

HOME = Path(os.environ["COE_HOME"])
TOKENS = 32


def pool() -> dict[str, ExpertSpec]:
    return {spec.name: spec for spec in starter.starter_experts(HOME)}


def chat(expert: str, prompt: str, number: object = "", **sampling: object) -> ChatCall:
    asked = Sampling(**{"temperature": 0.0, "max_tokens": TOKENS, **sampling})  # type: ignore[arg-type]
    return ChatCall(f"{expert}/{number}", expert, ({"role": "user", "content": prompt},), asked)


async def collect(engine: VllmEngine | Worker, call: ChatCall) -> tuple[str, Event]:
    text, last = "", None
    async with aclosing(engine.generate(call)) as events:
        async for event in events:
            if isinstance(event, Delta):
                text += event.text
            last = event
    assert last is not None
    return text, last


async def answer(engine: VllmEngine | Worker, call: ChatCall) -> str:
    text, last = await collect(engine, call)
    assert isinstance(last, Finish), last
    assert last.expert == call.expert
    return text


def prompts(name: str, count: int) -> list[str]:
    return [question.prompt for question in domain(name).held_out(random.Random(3), count)]


def transformers_answers(spec: ExpertSpec, questions: Sequence[str]) -> list[str]:
    """Greedy answers of the checkpoint by itself, one by one, in another library: the oracle."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(spec.source)
    model: Any = AutoModelForCausalLM.from_pretrained(spec.source, dtype=torch.float32)
    answers = []
    for question in questions:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
        )
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")
        with torch.inference_mode():
            out = model.generate(**ids, max_new_tokens=TOKENS, do_sample=False, pad_token_id=tokenizer.eos_token_id)
        answers.append(str(tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)))
    return answers


def chat_of(engine: VllmEngine, expert: str) -> ExpertChat:
    assert engine._serving is not None
    served = engine._serving.of(expert)
    assert served is not None
    return served.chat


async def all_blocks_come_back(engine: VllmEngine) -> None:
    """vLLM resets its prefix cache only while no request holds a block; an abort reaches it within some steps."""
    async with asyncio.timeout(30):
        assert engine._llm is not None
        while not await engine._llm.reset_prefix_cache():
            await asyncio.sleep(0.1)


async def until_up(worker: Worker, call: ChatCall) -> str:
    """The answer, asked for again as long as the worker says that its engine is starting."""
    async with asyncio.timeout(240):
        while True:
            text, last = await collect(worker, call)
            if isinstance(last, Finish):
                return text
            assert isinstance(last, Failure)
            assert last.code == "engine_starting", last
            await asyncio.sleep(0.5)


def worker_processes() -> set[int]:
    """Pids of the vLLM worker processes below us; vLLM names them so."""
    return {pid for pid, command in descendants(os.getpid()).items() if command.startswith("VLLM::Worker")}
