"""From the configuration to how each API key's requests are routed."""

from collections.abc import Mapping
from dataclasses import replace

from orchestrator.config.model import Config, RouterConfig
from orchestrator.config.policies import ConversationConfig, PoliciesConfig
from orchestrator.routing import Tenant
from orchestrator.store import Store
from orchestrator.turns import RememberedTurns, StoredTurns, Turns
from routers.base import Router
from routers.policies.conversation import Stay
from routers.policies.load_price import LoadPrice
from routers.policies.number import AtMost, Budget, Number, SkipSecond, TopP
from routers.policies.policy_set import PolicySet


def tenants(config: Config, routers: Mapping[str | None, Router], store: Store) -> tuple[Tenant, dict[str, Tenant]]:
    """(how requests are routed, the same for the API keys that have something of their own).

    routers: by tenant; None is the service's, which serves all that have none.
    """
    default = _tenant(config.router, config.policies, routers[None], store)
    own = {
        name: _tenant(
            tenant.router or config.router,
            tenant.policies or config.policies,
            routers.get(name, routers[None]),
            store,
            None if tenant.experts is None else frozenset(tenant.experts),
        )
        for name, tenant in config.tenants.items()
    }
    return default, own


def going_on(tenant: Tenant, former: Tenant | None) -> Tenant:
    """A tenant in whose place `former` was: conversations that this process remembers go on."""
    if former is None or not isinstance(tenant.turns, RememberedTurns) or not isinstance(former.turns, RememberedTurns):
        return tenant
    return replace(tenant, turns=former.turns)


def _tenant(
    router: RouterConfig, policies: PoliciesConfig, loaded: Router, store: Store, experts: frozenset[str] | None = None
) -> Tenant:
    is_quick = router.kind == "fixed" or router.encoder == "static"
    return Tenant(loaded, policy_set(router, policies), _turns(policies.conversation, store), experts, is_quick)


def policy_set(router: RouterConfig, policies: PoliciesConfig) -> PolicySet:
    """The policies that the configuration switches on."""
    margin = policies.conversation.margin
    return PolicySet(
        k=router.experts_per_request,
        number=_number(router, policies),
        sharpness=policies.number.sharpness,
        language=policies.language,
        price=LoadPrice(policies.load_price) if policies.load_price else None,
        stay=None if margin is None else Stay(margin),
    )


def _number(router: RouterConfig, policies: PoliciesConfig) -> Number | None:
    most, number = router.experts_per_request, policies.number
    if number.mean is not None:
        return Budget(number.mean, most)
    rule: Number = AtMost(most) if number.top_p is None else TopP(number.top_p)
    if number.skip_second is not None:
        return SkipSecond(number.skip_second, rule)
    return None if number.top_p is None else rule


def _turns(conversation: ConversationConfig, store: Store) -> Turns | None:
    if conversation.margin is None:
        return None
    if conversation.memory == "process":
        return RememberedTurns(conversation.ttl_s)
    return StoredTurns(store, conversation.ttl_s)
