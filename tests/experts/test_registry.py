"""Experts by name, and which of them go together."""

import pickle
from typing import Any

import pytest

from experts.registry import Problem, Registry, RegistryError, UnknownExpert, close_matches, did_you_mean
from experts.spec import ExpertSpec


def checkpoint(name: str, **fields: Any) -> ExpertSpec:
    return ExpertSpec(name=name, source=f"./{name}", **fields)


def adapter(name: str, base: str, **fields: Any) -> ExpertSpec:
    return ExpertSpec(name=name, source=f"./{name}", kind="adapter", base=base, **fields)


def remote(name: str, **fields: Any) -> ExpertSpec:
    return ExpertSpec(name=name, source="some.package:Chat", kind="remote", **fields)


SMOL = tuple(checkpoint(f"smol-{name}", family="smol") for name in ("general", "sql", "json", "cron"))


def problems(*specs: ExpertSpec) -> tuple[Problem, ...]:
    with pytest.raises(RegistryError) as caught:
        Registry(specs)
    return caught.value.problems


def test_experts_come_by_name_and_in_order() -> None:
    registry = Registry(SMOL)
    assert registry.names == ("smol-general", "smol-sql", "smol-json", "smol-cron")
    assert tuple(registry) == SMOL
    assert len(registry) == 4
    assert registry.get("smol-json") is SMOL[2]
    assert "smol-sql" in registry
    assert "sql" not in registry
    assert repr(registry) == "Registry(smol-general, smol-sql, smol-json, smol-cron)"


def test_no_experts_are_a_registry_too() -> None:
    registry = Registry(())
    assert (registry.names, registry.families(), list(registry)) == ((), {}, [])


def test_it_crosses_process_boundaries() -> None:
    copy = pickle.loads(pickle.dumps(Registry(SMOL)))
    assert tuple(copy) == SMOL


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smol-sq", "no expert is named 'smol-sq' (there are 4); did you mean 'smol-sql'?"),
        ("SMOL-SQL", "no expert is named 'SMOL-SQL' (there are 4); did you mean 'smol-sql'?"),
        ("gpt-5", "no expert is named 'gpt-5' (there are 4)"),
        ("", "no expert is named '' (there are 4)"),
        ("a\nb\x1b[31m", r"no expert is named 'a\nb\x1b[31m' (there are 4)"),
    ],
)
def test_an_unknown_name_is_told_with_what_may_have_been_meant(name: str, message: str) -> None:
    with pytest.raises(UnknownExpert) as caught:
        Registry(SMOL).get(name)
    assert str(caught.value) == message
    assert (caught.value.name, caught.value.count) == (name, 4)


def test_close_names_are_at_hand_for_callers() -> None:
    with pytest.raises(UnknownExpert) as caught:
        Registry(SMOL).get("smol-jsn")
    assert caught.value.close == ("smol-json",)


def test_a_name_of_any_length_is_compared_and_shown_in_part() -> None:
    with pytest.raises(UnknownExpert) as caught:
        Registry(SMOL).get("x" * 1_000_000)
    assert len(str(caught.value)) < 200


def test_one_expert_and_none() -> None:
    with pytest.raises(UnknownExpert, match=r"\(there is 1\)"):
        Registry(SMOL[:1]).get("x")
    with pytest.raises(UnknownExpert, match=r"\(there are 0\)"):
        Registry(()).get("x")


def test_families_in_the_order_of_their_first_expert() -> None:
    a, b, c, d = checkpoint("a", family="y"), checkpoint("b"), checkpoint("c", family="y"), remote("d")
    assert Registry((a, b, c, d)).families() == {"y": (a, c), "b": (b,), "d": (d,)}


def test_an_adapter_is_of_its_bases_family() -> None:
    registry = Registry(
        (adapter("poet", "chat"), checkpoint("chat", family="llama"), adapter("bard", "solo"), checkpoint("solo"))
    )
    assert registry.get("poet").family_name == "llama"
    assert {name: [spec.name for spec in specs] for name, specs in registry.families().items()} == {
        "llama": ["poet", "chat"],
        "solo": ["bard", "solo"],
    }


def test_names_must_differ() -> None:
    found = problems(checkpoint("a"), checkpoint("b"), checkpoint("a"))
    assert found == (Problem(2, "name", "'a' is already the name of experts[0]; names must differ"),)


@pytest.mark.parametrize(
    ("second", "field", "message"),
    [
        (adapter("poet", "chatt"), "base", "no expert is named 'chatt'; did you mean 'chat'?"),
        (adapter("poet", "poet"), "base", "'poet' is of kind 'adapter'; an adapter sits on a checkpoint"),
        (adapter("poet", "gpt"), "base", "'gpt' is of kind 'remote'; an adapter sits on a checkpoint"),
        (
            adapter("poet", "chat", family="other"),
            "family",
            "got 'other', but the base is of family 'llama'; leave 'family' out",
        ),
        (
            remote("far", family="llama"),
            "family",
            "'llama' would mix kind 'remote' with the checkpoint expert 'chat'; "
            "remote experts need a family apart from local ones",
        ),
        (
            checkpoint("near", family="gpt"),
            "family",
            "'gpt' would mix kind 'checkpoint' with the remote expert 'gpt'; "
            "remote experts need a family apart from local ones",
        ),
    ],
)
def test_what_does_not_go_together(second: ExpertSpec, field: str, message: str) -> None:
    assert problems(checkpoint("chat", family="llama"), remote("gpt"), second) == (Problem(2, field, message),)


def test_all_problems_are_told_in_the_order_of_the_experts() -> None:
    found = problems(adapter("x", "nobody"), checkpoint("a"), checkpoint("a"), remote("r", family="a"))
    assert [(problem.index, problem.field) for problem in found] == [(0, "base"), (2, "name"), (3, "family")]
    with pytest.raises(RegistryError, match=r"(?m)^experts\[2\]\.name: 'a' is already"):
        Registry((checkpoint("a"), checkpoint("b"), checkpoint("a")))


def test_much_worse_matches_are_left_out() -> None:
    assert close_matches("sorce", ("source", "price", "name")) == ("source",)
    assert close_matches("smol", ("smol-a", "smol-b", "smol-c", "smol-d")) == ("smol-a", "smol-b", "smol-c")
    assert did_you_mean("smol-", ("smol-a", "smol-b")) == "; did you mean 'smol-a' or 'smol-b'?"
    assert did_you_mean("x", ()) == ""
