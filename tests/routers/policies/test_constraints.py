"""Constraints: who may answer a request at all, and what is said when nobody may."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experts.spec import ExpertSpec
from routers.policies.base import Excluded, Need, Removed, Wish
from routers.policies.constraints import check, estimated_tokens, keep, told
from tests.routers.policies.parts import expert, pool

NAMES = ("chat", "math", "sql")
QUICK = settings(deadline=None, database=None, max_examples=50)


def kept(specs: tuple[ExpertSpec, ...], wish: Wish) -> tuple[str, ...]:
    return keep(specs, wish)[0]


def test_a_request_without_wishes_leaves_everybody() -> None:
    assert keep(pool(*NAMES), Wish()) == (NAMES, {})


def test_lists_and_tenant() -> None:
    assert kept(pool(*NAMES), Wish(allow=frozenset({"sql", "chat"}))) == ("chat", "sql")
    assert kept(pool(*NAMES), Wish(deny=frozenset({"sql"}))) == ("chat", "math")
    assert kept(pool(*NAMES), Wish(allow=frozenset({"sql"}), deny=frozenset({"sql"}))) == ()
    assert kept(pool(*NAMES), Wish(tenant=frozenset({"math"}))) == ("math",)
    assert kept(pool(*NAMES), Wish(tenant=frozenset({"math"}), allow=frozenset({"sql"}))) == ()


def test_abilities_are_those_that_an_expert_declares() -> None:
    specs = (
        expert("chat"),
        expert("eyes", modalities=["text", "image"]),
        expert("hands", tools=True),
        expert("all", modalities=["text", "image", "audio"], tools=True),
    )
    assert kept(specs, Wish(needs=frozenset({"image"}))) == ("eyes", "all")
    assert kept(specs, Wish(needs=frozenset({"tools", "image"}))) == ("all",)
    assert keep(specs, Wish(needs=frozenset({"tools", "image"})))[1]["chat"] == Removed(
        "needs", "takes no image and no tools"
    )


def test_an_expert_without_languages_speaks_all() -> None:
    specs = (expert("any"), expert("north", languages=["nb", "sv"]), expert("west", languages=["en-GB", "PT_br"]))
    assert kept(specs, Wish(languages=("no",))) == ("any", "north")
    assert kept(specs, Wish(languages=("da", "no"))) == ("any", "north")
    assert kept(specs, Wish(languages=("pt",))) == ("any", "west")
    assert kept(specs, Wish(languages=("de",))) == ("any",)
    assert kept(specs, Wish(languages=())) == ("any", "north", "west")


def test_an_expert_with_too_short_a_context_is_left_out() -> None:
    specs = (expert("short", context_length=100), expert("long", context_length=1000), expert("unknown"))
    assert kept(specs, Wish(tokens=100)) == ("short", "long", "unknown")
    assert keep(specs, Wish(tokens=101)) == (
        ("long", "unknown"),
        {"short": Removed("context", "takes fewer than about 101 tokens")},
    )
    assert kept(specs, Wish(tokens=5000)) == ("unknown",)


def test_an_estimate_refuses_nobody() -> None:
    specs = (expert("short", context_length=100), expert("long", context_length=1000))
    assert kept(specs, Wish(tokens=5000)) == ("long",)
    assert kept(specs, Wish(tokens=5000, deny=frozenset({"long"}))) == ("short",)


def test_tokens_are_about_a_quarter_of_the_bytes() -> None:
    assert estimated_tokens([]) == 0
    assert estimated_tokens(["a" * 400]) == 104
    assert estimated_tokens(["a" * 400, "日本" * 40]) == 104 + 64


def test_the_message_names_every_constraint_and_whom_it_removed() -> None:
    specs = (expert("chat"), expert("math", languages=["en"]), expert("sql", languages=["en"]))
    names, removed = keep(specs, wish := Wish(deny=frozenset({"chat"}), languages=("de", "nl")))
    with pytest.raises(Excluded) as caught:
        check(names, removed, wish)
    assert str(caught.value) == (
        "no expert may answer: lists: in 'deny': chat; language: does not speak 'de' or 'nl': math, sql"
    )


def test_a_message_about_many_experts_stays_short() -> None:
    removed = {f"e{n}": Removed("tenant", "not for this API key") for n in range(1000)}
    assert told(removed) == ("tenant: not for this API key: e0, e1, e2, e3, e4, e5, e6, e7, e8, e9 and 990 more")


def test_who_is_forced_and_may_not_answer_is_told() -> None:
    names, removed = keep(pool(*NAMES), wish := Wish(force=("sql", "chat"), tenant=frozenset({"chat"})))
    with pytest.raises(
        Excluded, match=r"'force' names an expert that may not answer: tenant: not for this API key: sql$"
    ):
        check(names, removed, wish)
    names, removed = keep(pool(*NAMES), wish := Wish(force=("chat",), tenant=frozenset({"chat"})))
    check(names, removed, wish)


SPECS = st.lists(
    st.builds(
        lambda name, languages, tools, length: expert(name, languages=languages, tools=tools, context_length=length),
        st.sampled_from("abcdef"),
        st.lists(st.sampled_from(["en", "de", "no"]), max_size=2),
        st.booleans(),
        st.sampled_from([None, 10, 100]),
    ),
    unique_by=lambda spec: spec.name,
    max_size=6,
)
SOME = st.frozensets(st.sampled_from("abcdef"))


@QUICK
@given(
    SPECS,
    st.none() | SOME,
    SOME,
    st.none() | SOME,
    st.booleans(),
    st.sampled_from(["en", "de", "fr"]),
    st.integers(0, 200),
)
def test_everybody_is_kept_or_removed_for_a_reason_and_nobody_is_kept_who_may_not(
    specs: list[ExpertSpec],
    allow: frozenset[str] | None,
    deny: frozenset[str],
    tenant: frozenset[str] | None,
    tools: bool,
    language: str,
    tokens: int,
) -> None:
    needs = frozenset[Need](["tools"] if tools else [])
    wish = Wish(allow=allow, deny=deny, tenant=tenant, needs=needs, languages=(language,), tokens=tokens)
    names, removed = keep(specs, wish)
    assert list(names) == [spec.name for spec in specs if spec.name not in removed]
    assert set(removed) <= {spec.name for spec in specs}
    for spec in specs:
        may = (
            spec.name not in deny
            and (allow is None or spec.name in allow)
            and (tenant is None or spec.name in tenant)
            and (spec.tools or not tools)
            and (not spec.languages or language in spec.languages)
        )
        assert may == (spec.name in names or removed[spec.name].rule == "context")
