"""Who can answer now. The others are masked: the router chooses among the rest and weighs them anew; nothing is fitted.

After MoE^2 (arXiv 2501.09410), where an expert that is away takes no part in the softmax over experts.
"""

from collections.abc import Collection, Sequence

from routers.base import NoCandidate
from routers.policies.base import Removed, State
from routers.policies.constraints import told

RULE = "outage"


def mask(
    candidates: Sequence[str], state: State, needed: Collection[str] = ()
) -> tuple[tuple[str, ...], dict[str, Removed]]:
    """(experts that can answer, in their order; expert -> why it cannot).

    Who failed is masked always. Who is in doubt is masked only while somebody else is left: an attempt is better than a
    refusal. needed: candidates that must take part; doubt does not mask them.
    Raises NoCandidate, with the reasons, if all failed or one that is needed did.
    """
    removed = {name: Removed(RULE, state.failed[name]) for name in candidates if name in state.failed}
    if lost := [name for name in needed if name in removed]:
        raise NoCandidate(f"'force' names an expert that cannot answer now: {told(removed, lost)}")
    able = tuple(name for name in candidates if name not in removed)
    if not able:
        raise NoCandidate(f"no expert can answer now: {told(removed)}")
    doubts = {name for name in able if name in state.doubtful and name not in needed}
    if len(doubts) == len(able):
        return able, removed
    removed |= {name: Removed(RULE, state.doubtful[name]) for name in able if name in doubts}
    return tuple(name for name in able if name not in doubts), removed
