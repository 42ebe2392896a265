"""/v1/completions: the rest of a text, or of several, driven by the official client."""

from typing import Any

import openai
import pytest

from orchestrator.access.grant import Grant
from tests.orchestrator.parts import SQL, Service
from workers.base import Sampling


async def test_a_text_is_continued(service: Service) -> None:
    answer = await service.openai.completions.create(model=SQL, prompt="SELECT", max_tokens=2, logprobs=1, n=2)
    assert answer.object == "text_completion"
    assert [(choice.index, choice.text, choice.finish_reason) for choice in answer.choices] == [
        (0, "sql heard:", "length"),
        (1, "sql heard:", "length"),
    ]
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert (logprobs.tokens, logprobs.text_offset) == (["sql", " heard:"], [0, 3])
    call = service.engine.calls[-1]
    assert (call.text, call.sampling) == ("SELECT", Sampling(max_tokens=2, logprobs=1))


async def test_completions_are_routed_and_stream(service: Service) -> None:
    chunks = [
        chunk
        async for chunk in await service.openai.completions.create(
            model="auto", prompt="some sql", stream=True, stream_options={"include_usage": True}
        )
    ]
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "sql heard: some sql"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 4
    assert (chunks[-2].model_extra or {})["coe"]["expert"] == SQL


async def test_each_of_several_prompts_is_continued_in_its_order(service: Service) -> None:
    answer = await service.openai.completions.create(model=SQL, prompt=["one", "two", "three"])
    assert [(choice.index, choice.text) for choice in answer.choices] == [
        (0, "sql heard: one"),
        (1, "sql heard: two"),
        (2, "sql heard: three"),
    ]
    told = sorted((call.text or "", call.messages[0]["content"], len(call.messages)) for call in service.engine.calls)
    assert told == [("one", "one", 1), ("three", "three", 1), ("two", "two", 1)]
    assert len({call.request_id for call in service.engine.calls}) == 3
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 9)


async def test_n_answers_to_each_prompt_stand_together_and_have_its_seeds(service: Service) -> None:
    answer = await service.openai.completions.create(model=SQL, prompt=["one", "two"], n=2, seed=5, best_of=2)
    assert [choice.text.split()[-1] for choice in answer.choices] == ["one", "one", "two", "two"]
    seeds = sorted((call.text or "", call.sampling.seed) for call in service.engine.calls)
    assert seeds == [("one", 5), ("one", 6), ("two", 5), ("two", 6)]


async def test_several_prompts_stream_side_by_side(service: Service) -> None:
    texts, reasons = {0: "", 1: ""}, {}
    stream = await service.openai.completions.create(model=SQL, prompt=["one", "two"], stream=True, echo=True)
    async for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    assert texts == {0: "onesql heard: one", 1: "twosql heard: two"}
    assert reasons == {0: "stop", 1: "stop"}


async def test_one_expert_is_chosen_for_all_prompts(service: Service) -> None:
    answer = await service.openai.completions.create(model="auto", prompt=["a select", "in sql, please"])
    assert answer.model == SQL
    assert service.router.prompts == ["a select\n\nin sql, please"]


async def test_an_echo_begins_with_the_prompt(service: Service) -> None:
    answer = await service.openai.completions.create(model=SQL, prompt="SELECT ", echo=True)
    assert answer.choices[0].text == "SELECT sql heard: SELECT "


async def test_a_prompt_that_is_too_long_is_told_by_its_place(service: Service) -> None:
    with pytest.raises(openai.BadRequestError, match=r"prompt\[1\]: the prompt has 60 tokens") as caught:
        await service.openai.completions.create(model=SQL, prompt=["short", "word " * 60])
    assert caught.value.code == "context_length_exceeded"


async def test_prompts_that_fit_each_by_itself_fit_together(service: Service) -> None:
    prompts = [f"sql {number} " + "word " * 30 for number in range(4)]
    answer = await service.openai.completions.create(model="auto", prompt=prompts, max_tokens=5)
    assert answer.model == SQL, "whose context holds 50 tokens"
    assert len(answer.choices) == 4


async def test_a_limit_of_tokens_holds_for_all_prompts(service: Service) -> None:
    key, _ = await service.keys.create("few", Grant(limits={"tokens_per_minute": 300}))
    completions = service.openai.with_options(api_key=key).completions
    await completions.create(model=SQL, prompt=["one"] * 3, max_tokens=40)
    with pytest.raises(openai.BadRequestError) as caught:
        await completions.create(model=SQL, prompt=["one"] * 10, max_tokens=40)
    assert caught.value.code == "request_over_limit"


@pytest.mark.parametrize(
    ("body", "param", "code", "words"),
    [
        ({"prompt": [1, 2]}, "prompt", "unsupported_parameter", "ids of tokens, which are an expert's own"),
        ({"prompt": [[1]]}, "prompt", "unsupported_parameter", "ids of tokens"),
        ({"prompt": []}, "prompt", "invalid_value", "at least 1"),
        ({"prompt": ""}, "prompt[0]", "invalid_value", "at least 1 character"),
        ({"prompt": ["a", ""]}, "prompt[1]", "invalid_value", "at least 1 character"),
        ({"prompt": ["a", None]}, "prompt[1]", "invalid_value", "valid string"),
        ({"prompt": 5}, "prompt", "invalid_value", "valid list"),
        ({"prompt": ["a"] * 65}, "prompt", "invalid_value", "at most 64 items"),
        ({"prompt": ["a"] * 33, "n": 2}, "prompt", "invalid_value", "there are 33, with 'n' 2 each; the limit is 64"),
        ({"best_of": 2}, "best_of", "unsupported_parameter", "it must be 1, as 'n'"),
        ({"echo": True, "logprobs": 1}, "echo", "unsupported_parameter", "not with 'logprobs'"),
        ({"suffix": "end"}, "suffix", "unsupported_parameter", "not supported yet"),
        ({"coe": {"k": 2}, "model": "auto"}, "prompt", "unsupported_parameter", "one expert alone"),
    ],
)
async def test_what_is_not_continued_is_told(
    service: Service, body: dict[str, Any], param: str, code: str, words: str
) -> None:
    response = await service.http.post("/v1/completions", json={"model": SQL, "prompt": "x", **body})
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (400, param, code)
    assert words in error["message"]
