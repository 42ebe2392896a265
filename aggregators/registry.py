"""The aggregators by name, built from their settings. They hold no state between requests: one of each serves all."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from aggregators.base import Aggregator
from aggregators.cascade import Cascade
from aggregators.judge import Judge
from aggregators.prompts import check
from aggregators.refine import Refine
from aggregators.settings import Choose, Role, Settings, best_seat
from aggregators.single import Single
from aggregators.synthesize import Synthesize
from aggregators.vote import Vote

_Make = Callable[[Settings, Choose], Aggregator]


def _refine(settings: Settings, choose: Choose) -> Aggregator:
    return Refine(settings, make(settings.end, settings, choose))


def _cascade(settings: Settings, choose: Choose) -> Aggregator:
    by_judge = settings.first == "judge"
    first = Judge(settings, choose, or_raise=True) if by_judge else Vote(waves=settings.waves, or_raise=True)
    return Cascade(first, make(settings.otherwise, settings, choose), settings.reserve_s)


_MAKERS: Mapping[str, _Make] = MappingProxyType(
    {
        "single": lambda settings, choose: Single(stream_first=settings.stream_first),
        "vote": lambda settings, choose: Vote(waves=settings.waves),
        "judge": Judge,
        "synthesize": Synthesize,
        "refine": _refine,
        "cascade": _cascade,
    }
)
NAMES = tuple(_MAKERS)


def make(name: str, settings: Settings | None = None, choose: Choose = best_seat) -> Aggregator:
    """The aggregator called `name`. choose: who judges and writes where `settings.expert` is none or may not be asked.

    Raises KeyError that lists the names, aggregators.prompts.PromptError.
    """
    if name not in _MAKERS:
        raise KeyError(f"there is no aggregator {name!r}; use one of {', '.join(NAMES)}")
    settings = settings or Settings()
    for prompt, text in settings.prompts.items():
        check(prompt, text)
    return _MAKERS[name](settings, _preferring(settings.expert, choose))


def build(settings: Settings | None = None, choose: Choose = best_seat) -> Mapping[str, Aggregator]:
    """All of them, by name."""
    return {name: make(name, settings, choose) for name in NAMES}


def _preferring(expert: str | None, choose: Choose) -> Choose:
    if expert is None:
        return choose

    def choose_it(role: Role, category: str | None, candidates: Sequence[str]) -> str:
        return expert if expert in candidates else choose(role, category, candidates)

    return choose_it
