"""Keywords from an expert: what is asked, which answers count, and what becomes of the others."""

import json
import re
from collections.abc import Callable

import httpx2
import pytest
from openai import OpenAI

from routers.skill.tags import ExpertTagger, TagError, normalised, parse

Say = Callable[[list[dict[str, str]]], str | int]
"""Messages of a request to the expert's answer, or an HTTP status."""


def tagger(say: Say, **options: int) -> tuple[ExpertTagger, list[dict[str, object]]]:
    asked: list[dict[str, object]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        asked.append(body)
        said = say(body["messages"])
        if isinstance(said, int):
            return httpx2.Response(said, json={"error": {"message": "no such expert"}})
        message = {"role": "assistant", "content": said}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return httpx2.Response(
            200, json={"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        )

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    client = OpenAI(base_url="http://expert/v1", api_key="-", max_retries=0, http_client=http)
    return ExpertTagger(client, "smol", **options), asked


def test_the_expert_is_asked_for_each_prompt_and_answers_keep_their_order() -> None:
    tag, asked = tagger(lambda messages: json.dumps([f"skill {messages[-1]['content']}", "algebra"]), parallel=3)
    prompts = [f"question {i}" for i in range(20)]
    assert tag(prompts) == [[f"skill question {i}", "algebra"] for i in range(20)]
    assert len(asked) == 20
    assert {body["model"] for body in asked} == {"smol"}
    assert {body["temperature"] for body in asked} == {0}


def test_no_prompts_need_no_expert() -> None:
    tag, asked = tagger(lambda messages: 500)
    assert (tag([]), asked) == ([], [])


@pytest.mark.parametrize(
    ("answer", "keywords"),
    [
        ('["Algebra"]', ["algebra"]),
        (' ["word_problems", "Word  Problems", "ratio-test"]\n', ["word problems", "ratio test"]),
        ('<think>["no"] or yes?</think>\n["yes"]', ["yes"]),
    ],
)
def test_an_array_of_keywords_is_read(answer: str, keywords: list[str]) -> None:
    assert parse(answer, most=5) == keywords


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("", "must be a JSON array of strings and nothing else, got ''"),
        ('Sure! ["algebra"]', "must be a JSON array of strings and nothing else"),
        ('["algebra"] <think>', "nothing else"),
        ('"algebra"', "must be an array of strings"),
        ('{"skills": ["algebra"]}', "must be an array of strings"),
        ('["algebra", 3]', "must be an array of strings"),
        ("[]", "must hold 1 to 2 keywords, got 0"),
        ('["a", "b", "c"]', "must hold 1 to 2 keywords, got 3"),
        ('[" - "]', "a keyword has 1 to 5 words, got ''"),
        ('["one two three four five six"]', "a keyword has 1 to 5 words, got 'one two"),
    ],
)
def test_any_other_answer_is_refused_with_the_reason(answer: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        parse(answer, most=2)


def test_a_wrong_form_is_sent_back_once_with_the_reason() -> None:
    tag, asked = tagger(lambda messages: '["algebra"]' if len(messages) > 2 else "algebra!")
    assert tag(["2 + 2?"]) == [["algebra"]]
    messages = asked[1]["messages"]
    assert isinstance(messages, list)
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[2]["content"] == "algebra!"
    assert "got 'algebra!'" in messages[3]["content"]


def test_a_wrong_form_twice_is_an_error() -> None:
    tag, asked = tagger(lambda messages: "algebra!")
    with pytest.raises(TagError, match=r"expert smol gave no keywords for '2 \+ 2\?', asked twice: .*'algebra!'"):
        tag(["2 + 2?"])
    assert len(asked) == 2


def test_an_expert_that_cannot_be_reached_is_an_error() -> None:
    tag, _ = tagger(lambda messages: 404)
    with pytest.raises(TagError, match=r"expert smol cannot be asked for keywords: .*no such expert"):
        tag(["2 + 2?"])


def test_a_long_prompt_is_cut_and_the_wanted_number_is_said() -> None:
    tag, asked = tagger(lambda messages: '["a"]', most=3)
    tag(["x" * 10_000])
    messages = asked[0]["messages"]
    assert isinstance(messages, list)
    assert len(messages[1]["content"]) == 4000
    assert "at most 3 of them" in messages[0]["content"]


@pytest.mark.parametrize("options", [{"most": 0}, {"parallel": 0}])
def test_limits_must_be_positive(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        tagger(lambda messages: "", **options)


def test_one_form_for_the_ways_to_write_a_keyword() -> None:
    assert {normalised(keyword) for keyword in ("Linear Algebra", "linear_algebra", " linear-algebra ")} == {
        "linear algebra"
    }
