"""Who may answer a request at all. Constraints come before the router: nobody is asked who may not answer."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from experts.registry import one_of
from experts.spec import ExpertSpec
from routers.policies.base import Excluded, Removed, Wish

Constraint = Callable[[ExpertSpec, Wish], str | None]
"""Why the expert may not answer; None if it may."""

MAX_NAMED = 10
"""Experts that a message names for each constraint."""


def of_tenant(spec: ExpertSpec, wish: Wish) -> str | None:
    """Experts that the API key may use."""
    return None if wish.tenant is None or spec.name in wish.tenant else "not for this API key"


def of_lists(spec: ExpertSpec, wish: Wish) -> str | None:
    """The request's lists. An expert on both is denied."""
    if spec.name in wish.deny:
        return "in 'deny'"
    return None if wish.allow is None or spec.name in wish.allow else "not in 'allow'"


def of_needs(spec: ExpertSpec, wish: Wish) -> str | None:
    """Modalities and tools, as the expert declares them."""
    able = {*spec.modalities, *(("tools",) if spec.tools else ())}
    missing = sorted(wish.needs - able)
    return f"without {' and '.join(missing)}" if missing else None


def of_language(spec: ExpertSpec, wish: Wish) -> str | None:
    """The languages that the expert declares; one that declares none speaks all."""
    if not wish.languages or not spec.languages:
        return None
    spoken = {plain_language(code) for code in spec.languages}
    understood = any(plain_language(code) in spoken for code in wish.languages)
    return None if understood else f"does not speak {one_of(wish.languages)}"


CONSTRAINTS: Mapping[str, Constraint] = {
    "tenant": of_tenant,
    "lists": of_lists,
    "needs": of_needs,
    "language": of_language,
}
"""In the order in which they are asked; the first that removes an expert is the one that is told."""


def keep(specs: Iterable[ExpertSpec], wish: Wish) -> tuple[tuple[str, ...], dict[str, Removed]]:
    """(experts that may answer, in their order; expert -> why it may not).

    The context length is asked last and removes nobody if it would remove all: it compares an estimate, and the engine
    of an expert with the longest context, which counts exactly, says what does not fit.
    """
    may: list[ExpertSpec] = []
    removed: dict[str, Removed] = {}
    for spec in specs:
        for rule, constraint in CONSTRAINTS.items():
            if why := constraint(spec, wish):
                removed[spec.name] = Removed(rule, why)
                break
        else:
            may.append(spec)
    lengths = {spec.name: spec.context_length or float("inf") for spec in may}
    least = min(wish.tokens, max(lengths.values(), default=0))
    short = {name for name, length in lengths.items() if length < least}
    removed |= {name: Removed("context", f"takes fewer than about {wish.tokens} tokens") for name in short}
    return tuple(name for name in lengths if name not in short), removed


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
