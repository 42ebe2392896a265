"""The experts of a service by name, in the order of the configuration.

`UnknownExpert`   a name was asked for that no expert has
`RegistryError`   the experts do not go together; `problems` says which ones and why
"""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from experts.spec import ExpertSpec

_LONGEST_COMPARED = 100
"""Characters of a wrong word that are compared and shown: names come from callers, and difflib takes quadratic time."""


def close_matches(word: str, known: Iterable[str], cutoff: float = 0.6) -> tuple[str, ...]:
    """Up to three of `known` that `word` may have been meant for, best first; letter case makes no difference.

    cutoff: likeness (difflib's ratio, in [0, 1]) that a match has at least. What is much less alike than the best match
    is left out.
    """
    by_lower: dict[str, str] = {}
    for name in known:
        by_lower.setdefault(name.lower(), name)
    matcher = difflib.SequenceMatcher(b=word[:_LONGEST_COMPARED].lower())
    likeness = {}
    for lower in by_lower:
        matcher.set_seq1(lower)
        likeness[lower] = matcher.ratio()
    least = max(cutoff, max(likeness.values(), default=0.0) - 0.15)
    best = sorted((lower for lower in likeness if likeness[lower] >= least), key=lambda lower: -likeness[lower])
    return tuple(by_lower[lower] for lower in best[:3])


def one_of(words: Iterable[str]) -> str:
    """``'a', 'b' or 'c'``."""
    *others, last = [repr(word) for word in words]
    return f"{', '.join(others)} or {last}" if others else last


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'a' or 'b'?``, or nothing if no known word is close."""
    close = close_matches(word, known)
    return f"; did you mean {one_of(close)}?" if close else ""


class UnknownExpert(LookupError):
    """No expert has this name. close: names that may have been meant, best first; count: experts there are."""

    def __init__(self, name: str, names: Iterable[str]) -> None:
        known = tuple(names)
        self.name = name
        self.close = close_matches(name, known)
        self.count = len(known)
        shown = repr(name if len(name) <= _LONGEST_COMPARED else name[:_LONGEST_COMPARED] + "...")
        there_are = f"there {'is' if self.count == 1 else 'are'} {self.count}"
        super().__init__(f"no expert is named {shown} ({there_are}){did_you_mean(name, known)}")


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an expert does not go with the others. index: its place in the list; field: the field of `ExpertSpec`."""

    index: int
    field: str
    message: str


class RegistryError(ValueError):
    """The experts do not go together. `problems` are in the order of the experts."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(f"experts[{p.index}].{p.field}: {p.message}" for p in self.problems))


class Registry:
    """An immutable mapping of name to expert, in order. Iteration gives the experts, `in` asks for a name.

    An adapter without a family of its own gets that of its base, so `family_name` of what comes out of a registry is
    where the expert is served. Raises RegistryError for two experts of one name, an adapter whose base is missing or
    is no checkpoint or is of another family, and a family of remote and local experts.
    """

    def __init__(self, specs: Iterable[ExpertSpec]) -> None:
        given = tuple(specs)
        if problems := _problems(given):
            raise RegistryError(problems)
        by_name = {spec.name: spec for spec in given}
        self._specs = {
            spec.name: spec.model_copy(update={"family": by_name[spec.base].family_name}) if spec.base else spec
            for spec in given
        }

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._specs)

    def get(self, name: str) -> ExpertSpec:
        """The expert of that name. Raises UnknownExpert, which says what may have been meant."""
        spec = self._specs.get(name)
        if spec is None:
            raise UnknownExpert(name, self._specs)
        return spec

    def families(self) -> dict[str, tuple[ExpertSpec, ...]]:
        """Family -> its experts; families in the order of their first expert."""
        families: dict[str, list[ExpertSpec]] = {}
        for spec in self:
            families.setdefault(spec.family_name, []).append(spec)
        return {name: tuple(specs) for name, specs in families.items()}

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def __iter__(self) -> Iterator[ExpertSpec]:
        return iter(self._specs.values())

    def __len__(self) -> int:
        return len(self._specs)

    def __repr__(self) -> str:
        return f"Registry({', '.join(self._specs)})"


def _problems(specs: tuple[ExpertSpec, ...]) -> list[Problem]:
    problems: list[Problem] = []
    first: dict[str, int] = {}
    for index, spec in enumerate(specs):
        if spec.name in first:
            message = f"{spec.name!r} is already the name of experts[{first[spec.name]}]; names must differ"
            problems.append(Problem(index, "name", message))
        first.setdefault(spec.name, index)

    seen: dict[str, ExpertSpec] = {}  # family -> its first expert
    for index, spec in enumerate(specs):
        if spec.base is not None:
            base = specs[first[spec.base]] if spec.base in first else None
            if base is None:
                message = f"no expert is named {spec.base!r}{did_you_mean(spec.base, first)}"
                problems.append(Problem(index, "base", message))
            elif base.kind != "checkpoint":
                message = f"{spec.base!r} is of kind {base.kind!r}; an adapter sits on a checkpoint"
                problems.append(Problem(index, "base", message))
            elif spec.family not in (None, base.family_name):
                message = f"got {spec.family!r}, but the base is of family {base.family_name!r}; leave 'family' out"
                problems.append(Problem(index, "family", message))
            continue  # it is served where its base is
        other = seen.setdefault(spec.family_name, spec)
        if (spec.kind == "remote") != (other.kind == "remote"):
            message = (
                f"{spec.family_name!r} would mix kind {spec.kind!r} with the {other.kind} expert {other.name!r}; "
                "remote experts need a family apart from local ones"
            )
            problems.append(Problem(index, "family", message))
    return sorted(problems, key=lambda problem: problem.index)
