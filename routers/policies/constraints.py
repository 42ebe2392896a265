"""Who may answer a request at all. Constraints come before the router: nobody is asked who may not answer."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from experts.registry import one_of
from experts.spec import ExpertSpec
from routers.policies.base import Excluded, Removed, Wish
from routers.policies.budget import most_usd

Check = Callable[[ExpertSpec], str | None]
"""Why the expert may not answer; None if it may."""
Constraint = Callable[[Wish], Check | None]
"""How experts are checked for what a request wishes; None if it wishes nothing of that kind."""

MAX_NAMED = 10
"""Experts that a message names for each constraint."""


def of_tenant(wish: Wish) -> Check | None:
    """Experts that the API key may use."""
    tenant = wish.tenant
    return None if tenant is None else lambda spec: None if spec.name in tenant else "not for this API key"


def of_lists(wish: Wish) -> Check | None:
    """The request's lists. An expert on both is denied."""
    allow, deny = wish.allow, wish.deny

    def check(spec: ExpertSpec) -> str | None:
        if spec.name in deny:
            return "in 'deny'"
        return None if allow is None or spec.name in allow else "not in 'allow'"

    return check if deny or allow is not None else None


def of_needs(wish: Wish) -> Check | None:
    """Modalities and tools, as the expert declares them."""

    def check(spec: ExpertSpec) -> str | None:
        missing = sorted(wish.needs - {*spec.modalities, *(("tools",) if spec.tools else ())})
        return f"takes no {' and no '.join(missing)}" if missing else None

    return check if wish.needs else None


def of_language(wish: Wish) -> Check | None:
    """The languages that the expert declares; one that declares none speaks all."""
    if not wish.languages:
        return None
    wanted = {plain_language(code) for code in wish.languages}
    why = f"does not speak {one_of(wish.languages)}"

    def check(spec: ExpertSpec) -> str | None:
        understood = not spec.languages or any(plain_language(code) in wanted for code in spec.languages)
        return None if understood else why

    return check


def of_budget(wish: Wish) -> Check | None:
    """Experts whose one call is within the request's money."""
    usd = wish.budget.usd

    def check(spec: ExpertSpec) -> str | None:
        cost = most_usd(spec, wish.prompt_tokens, wish.answer)
        return f"may cost {cost:.2g} US dollars, more than {usd:g}" if usd is not None and cost > usd else None

    return None if usd is None else check


CONSTRAINTS: Mapping[str, Constraint] = {
    "tenant": of_tenant,
    "lists": of_lists,
    "needs": of_needs,
    "language": of_language,
    "budget": of_budget,
}
"""In the order in which they are asked; the first that removes an expert is the one that is told."""


Kept = tuple[tuple[str, ...], dict[str, Removed]]
"""Experts that may answer, in their order; expert -> why it may not."""


def keep(specs: Iterable[ExpertSpec], wish: Wish) -> Kept:
    """The context length is asked last and removes nobody if it would remove all: it compares an estimate, and the
    engine of an expert with the longest context, which counts exactly, says what does not fit."""
    return Keeper(specs)(wish, wish.languages)


class Keeper:
    """`keep` for many wishes: what is the same for several of them is found out once."""

    def __init__(self, specs: Iterable[ExpertSpec]) -> None:
        self._specs = tuple(specs)
        self._known: dict[tuple[object, ...], tuple[dict[str, float], dict[str, Removed]]] = {}
        self.knows_languages = any(spec.languages for spec in self._specs)
        """Does it matter which language a request is in?"""

    def __call__(self, wish: Wish, languages: tuple[str, ...] | None) -> Kept:
        """languages: in place of the wish's."""
        cost = (wish.prompt_tokens, wish.answer) if wish.budget.usd is not None else ()
        key = (wish.tenant, wish.allow, wish.deny, wish.needs, languages, wish.budget, cost)
        if (found := self._known.get(key)) is None:
            found = self._known[key] = self._by_rules(replace(wish, languages=languages))
        lengths, removed = found
        least = min(wish.tokens, max(lengths.values(), default=0))
        short = [name for name, length in lengths.items() if length < least]
        if not short:
            return tuple(lengths), dict(removed)
        too_long = dict.fromkeys(short, Removed("context", f"takes fewer than about {wish.tokens} tokens"))
        return tuple(name for name in lengths if name not in too_long), removed | too_long

    def _by_rules(self, wish: Wish) -> tuple[dict[str, float], dict[str, Removed]]:
        """(expert -> tokens that it takes; expert -> why it may not answer)"""
        checks = [(rule, check) for rule, constraint in CONSTRAINTS.items() if (check := constraint(wish))]
        lengths: dict[str, float] = {}
        removed: dict[str, Removed] = {}
        for spec in self._specs:
            for rule, check in checks:
                if why := check(spec):
                    removed[spec.name] = Removed(rule, why)
                    break
            else:
                lengths[spec.name] = spec.context_length or float("inf")
        return lengths, removed


def check(kept: Sequence[str], removed: Mapping[str, Removed], wish: Wish) -> None:
    """Raises Excluded if nobody is left, or if somebody is not left who must take part."""
    lost = [name for name in wish.force if name in removed]
    if lost:
        raise Excluded(f"'force' names an expert that may not answer: {told(removed, lost)}")
    if not kept:
        raise Excluded(f"no expert may answer: {told(removed)}")


def told(removed: Mapping[str, Removed], names: Iterable[str] | None = None) -> str:
    """Each rule with whom it removed: ``language: does not speak 'de': math, sql; lists: in 'deny': chat``."""
    groups: dict[Removed, list[str]] = {}
    for name in removed if names is None else names:
        groups.setdefault(removed[name], []).append(name)
    return "; ".join(f"{reason.rule}: {reason.why}: {_listed(group)}" for reason, group in groups.items())


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


@lru_cache(maxsize=1024)
def plain_language(code: str) -> str:
    """The language of a code such as ``pt-BR``, in lower case; Norwegian is one language, however it is written."""
    language = code.replace("_", "-").partition("-")[0].lower()
    return "no" if language in ("nb", "nn") else language


def estimated_tokens(texts: Iterable[str]) -> int:
    """Tokens of a chat: a quarter of its bytes in UTF-8, and 4 a message for the template.

    Tokenizers make a token of about four bytes of English and of about three of other scripts, so this is rather low:
    an expert is excluded where it surely is too short, and in doubt its engine decides.
    """
    return sum(4 + len(text.encode("utf-8", "replace")) // 4 for text in texts)
