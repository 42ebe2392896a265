"""The aggregators by name. They hold no state between requests, so one of each serves all."""

from collections.abc import Mapping
from types import MappingProxyType

from aggregators.base import Aggregator
from aggregators.single import Single
from aggregators.vote import Vote

AGGREGATORS: Mapping[str, Aggregator] = MappingProxyType(
    {aggregator.name: aggregator for aggregator in (Single(), Vote())}
)


def get(name: str) -> Aggregator:
    """The aggregator called `name`. Raises KeyError that lists the names."""
    if name not in AGGREGATORS:
        raise KeyError(f"there is no aggregator {name!r}; use one of {', '.join(AGGREGATORS)}")
    return AGGREGATORS[name]
