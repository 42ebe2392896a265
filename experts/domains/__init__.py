"""The domains of the starter pool, one module each."""

from importlib import import_module

from experts.domains.base import Domain

NAMES = ("sql", "json", "cron", "dates", "language", "intent", "logs", "shell", "regex")


def domain(name: str) -> Domain:
    """The domain of that name. Raises KeyError, with the names there are, for another."""
    if name not in NAMES:
        raise KeyError(f"no domain {name!r}; there are: {', '.join(NAMES)}")
    found: Domain = import_module(f"experts.domains.{name}").DOMAIN
    return found
