"""From coe.yaml to how requests are routed: what each key of the policies switches on."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.config.model import Config
from orchestrator.store import Store
from orchestrator.tenants import policy_set, tenants
from orchestrator.turns import RememberedTurns, StoredTurns
from routers.fixed import FixedRouter
from routers.policies.conversation import Stay
from routers.policies.load_price import LoadPrice
from routers.policies.number import AtMost, Budget, SkipSecond, TopP
from routers.policies.policy_set import PolicySet

EXPERTS = [{"name": name, "source": f"./{name}"} for name in ("chat", "math", "sql")]


def config(**sections: Any) -> Config:
    router = {"kind": "fixed", "fallback": "chat", **sections.pop("router", {})}
    return Config.model_validate({"experts": EXPERTS, "router": router, **sections})


def policies(k: int = 3, **policies: Any) -> PolicySet:
    made = config(router={"experts_per_request": k}, policies=policies)
    return policy_set(made.router, made.policies)


def test_by_default_only_what_a_request_implies_and_outages_are_minded() -> None:
    assert policies(1) == PolicySet()
    assert policies(3) == PolicySet(k=3)


def test_each_key_switches_one_policy_on() -> None:
    assert policies(number={"top_p": 0.9}) == PolicySet(k=3, number=TopP(0.9))
    assert policies(number={"skip_second": 0.5}) == PolicySet(k=3, number=SkipSecond(0.5, AtMost(3)))
    both = policies(number={"top_p": 0.9, "skip_second": 0.5, "sharpness": 1})
    assert both == PolicySet(k=3, number=SkipSecond(0.5, TopP(0.9)), sharpness=1.0)
    assert policies(load_price=0.01) == PolicySet(k=3, price=LoadPrice(0.01))
    assert policies(conversation={"margin": 0}) == PolicySet(k=3, stay=Stay(0.0))
    assert policies(language=False) == PolicySet(k=3, language=False)
    assert isinstance(policies(number={"mean": 1.5}).number, Budget)


@pytest.mark.parametrize(("memory", "kind"), [("redis", StoredTurns), ("process", RememberedTurns)])
async def test_where_conversations_are_remembered_is_a_setting(memory: str, kind: type) -> None:
    store = Store("redis://127.0.0.1:1")
    made = config(policies={"conversation": {"margin": 0.1, "memory": memory}})
    default, _ = tenants(made, {None: FixedRouter("chat")}, store)
    assert isinstance(default.turns, kind)
    assert tenants(config(), {None: FixedRouter("chat")}, store)[0].turns is None
    await store.close()


async def test_what_a_key_has_not_of_its_own_is_the_services() -> None:
    store = Store("redis://127.0.0.1:1")
    made = config(
        router={"experts_per_request": 3},
        policies={"load_price": 0.01},
        tenants={
            "plain": {},
            "school": {"experts": ["math"], "policies": {"language": False}},
            "lab": {"router": {"kind": "fixed", "fallback": "sql"}},
        },
    )
    routers = {None: FixedRouter("chat"), "lab": FixedRouter("sql")}
    default, own = tenants(made, routers, store)
    assert (default.router, default.policies) == (routers[None], PolicySet(k=3, price=LoadPrice(0.01)))
    assert own["plain"] == default
    assert (own["school"].router, own["school"].experts) == (routers[None], frozenset({"math"}))
    assert own["school"].policies == PolicySet(k=3, language=False)
    assert (own["lab"].router, own["lab"].experts) == (routers["lab"], None)
    assert own["lab"].policies == PolicySet(k=1, price=LoadPrice(0.01))
    await store.close()


def test_the_example_of_the_page_is_read() -> None:
    page = (Path(__file__).parents[2] / "docs" / "policies.md").read_text()
    [example] = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    made = config(**yaml.safe_load(example))
    assert made.tenants["school"].experts == ("chat", "math")
    policies = policy_set(made.router, made.policies)
    assert (policies.k, policies.price, policies.stay) == (3, LoadPrice(0.01), Stay(0.1))
    assert isinstance(policies.number, Budget)
