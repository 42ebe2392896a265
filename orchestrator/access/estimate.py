"""What a request may use at most: reserved from the limits of its key before it runs."""

from collections.abc import Sequence

from experts.spec import ExpertSpec
from orchestrator.access.quota import Use
from routers.policies.budget import Budget, answer_tokens, most_usd


def most_used(
    specs: Sequence[ExpertSpec], prompt: int, answer: int | None, drafts: int, own: int, budget: Budget
) -> Use:
    """Tokens and US dollars of a request for which any of these experts may be called.

    prompt: its tokens. answer: the most that its caller wants; None = as many as an expert's own limit.
    drafts: experts that answer. own: calls beside these, each of which reads all drafts.
    """
    if budget.calls is not None:
        drafts = min(drafts, budget.calls)
        own = min(own, budget.calls - drafts)
    longest = max((answer_tokens(spec, answer) for spec in specs), default=0)
    read = prompt + drafts * longest
    tokens = drafts * (prompt + longest) + own * (read + longest)
    usd = drafts * max((most_usd(spec, prompt, answer) for spec in specs), default=0.0)
    usd += own * max((most_usd(spec, read, answer) for spec in specs), default=0.0)
    if budget.usd is not None:
        usd = min(usd, budget.usd)
    return Use(tokens=tokens, usd=usd, bounded=answer is not None)
