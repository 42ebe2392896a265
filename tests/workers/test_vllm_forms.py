"""Real vLLM: what an answer may be bound to, tools, and what is told of its tokens."""

import asyncio
import json
import math
import shutil
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import pytest_asyncio

from experts import starter
from experts.spec import ExpertSpec
from tests.workers.real import chat_of, pool
from workers.base import ChatCall, Delta, Event, Failure, Finish, Form, Sampling, Tools
from workers.vllm_engine import VllmEngine, VllmSettings

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

TEMPLATE = """{% for tool in tools or [] %}<|im_start|>system
{{ tool.function.name }}: {{ tool.function.parameters | tojson }}<|im_end|>
{% endfor %}{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content or '' }}{% for call in message.tool_calls or [] %}{{ call.function.arguments.city }}{% endfor -%}
<|im_end|>
{% endfor %}<|im_start|>assistant
"""
WEATHER: dict[str, Any] = {
    "name": "weather",
    "description": "The weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 12},
            "days": {"type": "integer", "minimum": 1, "maximum": 9},
        },
        "required": ["city", "days"],
        "additionalProperties": False,
    },
}
CLOCK: dict[str, Any] = {
    "name": "clock",
    "parameters": {
        "type": "object",
        "properties": {"zone": {"enum": ["UTC", "CET"]}},
        "required": ["zone"],
        "additionalProperties": False,
    },
}
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 10},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
SQL, DATES, ODD = "smol-sql", "smol-dates", "odd"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[VllmEngine]:
    """Two experts, the second with a template that knows tools, and one whose tokenizer has a token more."""
    folder = tmp_path_factory.mktemp("forms")
    (folder / "tools.jinja").write_text(TEMPLATE)
    sql, dates = pool()[SQL], pool()[DATES]
    tools = {"tools": True, "tool_parser": "hermes", "chat_template": str(folder / "tools.jinja")}
    odd = Path(shutil.copytree(sql.source, folder / "odd"))
    _add_token(odd)
    specs = [
        sql,
        dates.model_copy(update=tools),
        ExpertSpec(name=ODD, source=str(odd), family=starter.FAMILY),
    ]
    engine = VllmEngine(starter.FAMILY, specs, VllmSettings(max_model_len=512))
    await engine.start()
    yield engine
    await engine.close()


def _add_token(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    tokenizer.add_tokens(["<odd>"])
    tokenizer.save_pretrained(str(folder))


def asked(expert: str, text: str, **more: Any) -> ChatCall:
    sampling = more.pop("sampling", Sampling(temperature=0.0, max_tokens=96))
    return ChatCall(f"{expert}-{text}", expert, ({"role": "user", "content": text},), sampling, **more)


async def events_of(engine: VllmEngine, call: ChatCall) -> list[Event]:
    async with aclosing(engine.generate(call)) as events:
        return [event async for event in events]


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def calls_of(events: list[Event]) -> list[tuple[str, Any]]:
    """(name, arguments) of each call."""
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    for event in events:
        for part in event.calls if isinstance(event, Delta) else ():
            if part.name is not None:
                assert part.id is not None
                assert part.index not in names
                names[part.index] = part.name
            arguments[part.index] = arguments.get(part.index, "") + part.arguments
    return [(names[index], json.loads(arguments[index])) for index in sorted(names)]


async def test_answers_keep_to_their_schemas_beside_free_ones_of_other_experts(engine: VllmEngine) -> None:
    bound = [
        asked(expert, f"Who is number {number}?", sampling=Sampling(0.0, max_tokens=96, form=Form(json.dumps(PERSON))))
        for expert in (SQL, DATES)
        for number in range(3)
    ]
    *made, free = await asyncio.gather(*(events_of(engine, call) for call in (*bound, asked(SQL, "List all users."))))
    for call, events in zip(bound, made, strict=True):
        jsonschema.validate(json.loads(text_of(events)), PERSON)
        end = events[-1]
        assert isinstance(end, Finish)
        assert (end.reason, end.expert) == ("stop", call.expert)
    assert isinstance(free[-1], Finish)
    assert text_of(free)[:1] not in ("", "{")


async def test_any_object_will_do_without_a_schema(engine: VllmEngine) -> None:
    sampling = Sampling(1.0, max_tokens=200, seed=1, form=Form())
    text = text_of(await events_of(engine, asked(SQL, "Say it in JSON.", sampling=sampling)))
    assert text.lstrip().startswith("{")


async def test_the_function_that_is_named_is_called(engine: VllmEngine) -> None:
    tools = Tools((WEATHER, CLOCK), "required", "weather")
    events = await events_of(engine, asked(DATES, "Rain in Rome?", tools=tools))
    [(name, arguments)] = calls_of(events)
    assert name == "weather"
    jsonschema.validate(arguments, WEATHER["parameters"])
    assert text_of(events) == ""
    assert isinstance(events[-1], Finish)
    assert events[-1].reason == "tool_calls"
    assert sum(isinstance(event, Delta) for event in events) > 3, "arguments stream"


async def test_some_function_is_called_where_one_is_required(engine: VllmEngine) -> None:
    tools = Tools((WEATHER, CLOCK), "required", parallel=False)
    [(name, arguments)] = calls_of(await events_of(engine, asked(DATES, "What time is it?", tools=tools)))
    jsonschema.validate(arguments, {"weather": WEATHER, "clock": CLOCK}[name]["parameters"])


async def test_an_expert_without_tools_in_its_template_says_so(engine: VllmEngine) -> None:
    [failure] = await events_of(engine, asked(SQL, "Rain?", tools=Tools((WEATHER,))))
    assert isinstance(failure, Failure)
    assert failure.code == "invalid_request"
    assert "knows no tools" in failure.message


async def test_what_was_called_and_answered_is_in_the_prompt(engine: VllmEngine) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome", "days": 1}'}}
    told = (
        {"role": "user", "content": "Rain?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "Sun."},
    )
    chat = chat_of(engine, DATES)
    shown = chat.tokenizer.decode(chat.render(ChatCall("r", DATES, told, tools=Tools((WEATHER,)))))
    assert "Rome" in shown
    assert "Sun." in shown
    assert shown.index("weather:") < shown.index("Rain?")


async def test_an_expert_of_other_tokens_cannot_be_bound(engine: VllmEngine) -> None:
    [failure] = await events_of(engine, asked(ODD, "Who?", sampling=Sampling(form=Form(json.dumps(PERSON)))))
    assert isinstance(failure, Failure)
    assert failure.code == "invalid_request"
    assert "its tokens are not those of smol-sql" in failure.message


async def test_a_schema_that_cannot_be_compiled_fails_alone(engine: VllmEngine) -> None:
    broken = Form(json.dumps({"type": "string", "pattern": "(?<=a)b"}))
    failed, fine = await asyncio.gather(
        events_of(engine, asked(SQL, "a", sampling=Sampling(0.0, max_tokens=8, form=broken))),
        events_of(engine, asked(SQL, "b", sampling=Sampling(0.0, max_tokens=8))),
    )
    assert isinstance(fine[-1], Finish)
    assert isinstance(failed[-1], Failure)
    assert failed[-1].code == "invalid_request"


async def test_each_token_has_its_logarithm_of_probability(engine: VllmEngine) -> None:
    call = asked(SQL, "List all users.", sampling=Sampling(0.0, max_tokens=24, logprobs=3))
    events = await events_of(engine, call)
    end = events[-1]
    assert isinstance(end, Finish)
    rows = [row for event in events if isinstance(event, Delta) for row in event.logprobs]
    assert len(rows) == end.usage.completion_tokens
    for row in rows:
        assert [own.logprob for own in row.top] == sorted((own.logprob for own in row.top), reverse=True)
        assert row.chosen == row.top[0], "temperature 0 takes the likeliest"
        assert sum(math.exp(own.logprob) for own in row.top) <= 1.0001
    assert "".join(row.chosen.token for row in rows).startswith(text_of(events))
    bare = await events_of(engine, replace(call, request_id="bare", sampling=Sampling(0.0, max_tokens=24, logprobs=0)))
    assert all(row.top == () for event in bare if isinstance(event, Delta) for row in event.logprobs)
    assert text_of(bare) == text_of(events)


async def test_a_bias_bans_a_token(engine: VllmEngine) -> None:
    call = asked(SQL, "List all users.", sampling=Sampling(0.0, max_tokens=4))
    before = text_of(await events_of(engine, call))
    [first, *_] = chat_of(engine, SQL).tokenizer(before, add_special_tokens=False)["input_ids"]
    banned = replace(call, request_id="banned", sampling=replace(call.sampling, logit_bias=((first, -100.0),)))
    assert text_of(await events_of(engine, banned))[:3] != before[:3]


async def test_a_text_is_continued_without_the_template(engine: VllmEngine) -> None:
    call = ChatCall("raw", SQL, ({"role": "user", "content": "SELECT"},), Sampling(0.0, max_tokens=4), text="SELECT")
    [*_, end] = await events_of(engine, call)
    assert isinstance(end, Finish)
    assert end.usage.prompt_tokens == len(chat_of(engine, SQL).tokenizer("SELECT")["input_ids"])
