"""Which text of a conversation is routed on."""

from typing import Any

import pytest

from routers.ask import SHORT, WITH_QUOTE, ask

ASK = "How do I join two tables in SQL?"
LONG_ASK = "Please rewrite the following paragraph so that a lawyer and a child of ten years both understand it, " * 2


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def routed(text: str) -> str:
    return ask([user(text)])


@pytest.mark.parametrize(
    "text",
    [
        ASK,
        "  two lines\n\nwith spaces  ",
        "Question: what is 2 + 2?\nA. 3\nB. 4\nAnswer:",
        "Passage: It rained.\nQuestion: did it rain?",
        "Thought: one such word is a word like any other",
        "Is a < b and b > c?",
        "<context> that is never closed: " + ASK,
        "<div>Why is this red?</div>",
        "日本語の質問です",
        "def one():\n    >>> one()\n    1",
        "> only a quote",
        "```\nonly_code()\n```",
        "2024-05-01 12:00:03 ERROR only a log",
        "Observation: 12 rows",
    ],
)
def test_a_message_without_foreign_text_or_without_anything_else_is_taken_as_it_is(text: str) -> None:
    assert routed(text) == text


def test_odd_spaces_are_made_plain() -> None:
    assert routed("\ufeffHow\u00a0do\u200b I\u3000join?") == "How do I join?"


def test_the_last_turn_of_the_human_counts() -> None:
    messages = [
        {"role": "system", "content": "You are a poet."},
        user("Write a poem"),
        {"role": "assistant", "content": "Roses are red"},
        user(ASK),
        {"role": "assistant", "content": "Thought: I need the schema"},
        {"role": "tool", "content": "CREATE TABLE cats"},
    ]
    assert ask(messages) == ASK


def test_text_parts_count_and_others_do_not() -> None:
    parts = [
        {"type": "text", "text": "What is"},
        {"type": "image_url", "image_url": {"url": "x"}},
        {"type": "text", "text": "this?"},
    ]
    assert ask([{"role": "user", "content": parts}]) == "What is\nthis?"


def test_without_a_user_the_last_text_counts() -> None:
    assert ask([{"role": "system", "content": "Say hello."}, {"role": "assistant", "content": " "}]) == "Say hello."
    assert ask([{"role": "assistant", "content": None}]) == ""
    assert ask([]) == ""


@pytest.mark.parametrize(
    "result",
    [
        "Observation: 12 rows\n3 | Felix",
        "Tool result: {'cats': 3}",
        "[tool_result]: none",
        "Result of calling search('cats'): nothing",
        "<tool_result name='sql'>\nfelix\n</tool_result>",
        "<environment_details>\n# Time\n12:00\n</environment_details>",
        "Thought: look it up\nAction: search\nAction Input: cats",
        "---",
    ],
)
def test_a_tools_result_is_no_turn(result: str) -> None:
    assert ask([user(ASK), {"role": "assistant", "content": "Let me see."}, user(result)]) == ASK


@pytest.mark.parametrize(
    "text",
    [
        f"Use the pieces of context to answer.\n\nContext:\ncats eat mice\n\nQuestion: {ASK}",
        f"Context information is below.\n-----\ncats eat mice\n-----\nAnswer the query.\nQuery: {ASK}",
        f"### Context\ncats eat mice\n\n### User question:\n{ASK}",
        f"Chat history:\nHuman: what do cats eat?\nFollow-up input: {ASK}",
        f"<documents>\n<document>cats</document><document>mice</document>\n</documents>\n{ASK}",
        f"Answer from the sources.\n<context>cats</context>\n<question>{ASK}</question>\nBe brief.",
        f"<thinking>the user wants <context>cats</context></thinking>{ASK}",
        f"Question: {ASK}\nThought: I should look\nAction: search\nObservation: nothing",
        f"{ASK}\nThought: I should look\nAction: search\nObservation: nothing",
    ],
)
def test_context_and_scratchpad_are_left_out(text: str) -> None:
    assert routed(text).strip() == ASK
    assert routed(text.replace("\n", "\r\n")).strip() == ASK


def test_the_last_question_of_a_few_shot_agent_counts() -> None:
    shot = "Question: {}\nThought: think\nAction: search\nObservation: found\n"
    assert routed(shot.format("what do cats eat?") + shot.format(ASK)).strip() == ASK


QUOTES = [
    "```sql\nSELECT * FROM cats\n```",
    "~~~\nSELECT * FROM cats\n~~~",
    "> SELECT * FROM cats",
    "On Mon, 3 Mar 2025 at 10:12, Kim Doe wrote:\n> SELECT * FROM cats",
    "-----Original Message-----\nSELECT * FROM cats",
    "From: kim@example.org\nSent: Monday\nSubject: cats\nSELECT * FROM cats",
    "2024-05-01T12:00:03 INFO SELECT * FROM cats",
    '  File "a.py", line 3, in SELECT * FROM cats',
]


@pytest.mark.parametrize("quote", QUOTES)
def test_a_quote_comes_after_short_words_and_not_after_long_ones(quote: str) -> None:
    short = routed(f"Why is this slow?\n{quote}")
    assert short.startswith("Why is this slow?\n")
    assert short.endswith("SELECT * FROM cats")
    assert "Kim" not in short
    assert routed(f"{LONG_ASK}\n{quote}") == LONG_ASK.strip()


@pytest.mark.parametrize("pointer", ["Can you answer this one?", "See below, please.", "Hi Sam,\n\nany idea?", "fyi"])
def test_words_that_only_point_leave_the_ask_to_the_quote(pointer: str) -> None:
    assert routed(f"{pointer}\n\nOn Monday, Kim wrote:\n> {LONG_ASK}\n> {ASK}\n-- \nSam Roe") == f"{LONG_ASK}\n{ASK}"


def test_a_signature_is_left_out() -> None:
    assert routed(f"{ASK}\n\n-- \nSam Roe\nSales").strip() == ASK
    table = "| a |\n--\n" + "| 1 |\n" * 20
    assert routed(ASK + table) == (ASK + table).strip()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Hi! ", ""),
        ("Hello there, ", " Thanks!"),
        ("Dear Mr. Smith,\n", "\n\nBest regards,\nKim"),
        ("good morning. I hope you are well. ", " Thank you so much in advance!!"),
        ("Hey, sorry to bother you again. A quick question: ", " pls help asap 🙏"),
        ("", "\n(sent from my phone)"),
        ("", " Any help would be appreciated. Cheers, Sam"),
    ],
)
def test_courtesy_is_left_out(before: str, after: str) -> None:
    assert routed(before + ASK + after).strip() == ASK


@pytest.mark.parametrize(
    "text",
    [
        "Hello World in Rust: how?",
        "How do I say thank you in Japanese?",
        "Write a mail that ends with kind regards and has three paragraphs. It is for my boss.",
        "hi",
        "Thanks!",
        "Dear diary is a song by whom?",
        "Hope is the thing with feathers: who wrote that?",
    ],
)
def test_courtesy_that_is_the_matter_stays(text: str) -> None:
    assert routed(text) == text


def test_a_long_quote_is_cut() -> None:
    text = routed("Why is this slow?\n```\n" + "SELECT 1\n" * 1000 + "```")
    assert len(text) == WITH_QUOTE
    assert len(LONG_ASK) > SHORT


def test_an_answer_under_a_mail_counts() -> None:
    assert routed(f"On Monday Kim wrote:\n> {'cats ' * 100}\n\n{LONG_ASK}") == LONG_ASK.strip()


def test_what_was_asked_before_a_bare_quote_counts_with_it() -> None:
    messages = [user("Find the bug in my code."), {"role": "assistant", "content": "Show it."}, user("```\nx = 1\n```")]
    assert ask(messages) == "Find the bug in my code.\nx = 1"


@pytest.mark.parametrize("reply", ["yes", "Yes, please go on!", "ok, continue", "why?", "thanks, and then?"])
def test_a_follow_up_asks_for_what_was_asked_before(reply: str) -> None:
    messages = [user(ASK), {"role": "assistant", "content": "Shall I?"}, user("ok"), user(reply)]
    assert ask(messages) == f"{reply}\n{ASK}"
    assert ask([user(reply)]) == reply


def test_a_short_ask_is_no_follow_up() -> None:
    assert ask([user(ASK), user("Who is Bach?")]) == "Who is Bach?"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "hostile",
    [
        "<context>",
        "</context>",
        "\n",
        " ",
        "> ",
        "```\n",
        "a wrote:\n",
        "Context:",
        "From: x\n",
        "yes ",
        "thanks ",
        "hi, ",
    ],
)
def test_time_is_linear_in_the_length(hostile: str) -> None:
    """A quadratic pattern takes minutes here."""
    text = hostile * (1_000_000 // len(hostile))
    assert len(ask([user(text)] * 3)) <= len(text) * 2 + 1
