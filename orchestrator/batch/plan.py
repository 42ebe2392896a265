"""In which order the lines of a batch are worked on, so that each expert is loaded once. Pure.

    lines    A B A AB C A ...                 routed, all of them, before the first one runs
    drafts   A A A A | B B | C                an expert's group: its own lines, and drafts for those that several answer
    answers  AB                               what makes one answer of the drafts, by who judges and writes

A *step* is a line that an expert works on: the one of a line for one expert, a draft, or the answer made of drafts.
Steps are numbered in the order of their groups, and within a group in that of their lines. A group is cut into
*blocks*, which is what a runner takes at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int32]
Lines = NDArray[np.int32]

BAD = -1
"""Code of a line that cannot be run."""
NOBODY = ""
"""In place of an expert and of a family, for what no expert works on: vectors, and answers that drafts vote on."""


@dataclass(frozen=True, slots=True)
class Team:
    """Who works on a line. experts: of drafts, or the one that answers. writer: who judges and writes, None for nobody
    or where there is one expert."""

    experts: tuple[str, ...]
    writer: str | None = None

    @property
    def is_several(self) -> bool:
        return len(self.experts) > 1


@dataclass(frozen=True, slots=True)
class Group:
    """Steps of one expert. stage: 1, or 2 for what needs all of stage 1. block, blocks: number of its first block, and
    how many there are. step, steps: the same of its steps."""

    stage: int
    family: str
    expert: str
    block: int
    blocks: int
    step: int
    steps: int


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """lines: (S,) the line of each step; size: steps of a block."""

    groups: tuple[Group, ...]
    lines: Lines
    size: int

    def block(self, number: int) -> tuple[Group, range]:
        """The group of a block, and its steps."""
        group = next(own for own in self.groups if own.block <= number < own.block + own.blocks)
        start = group.step + (number - group.block) * self.size
        return group, range(start, min(start + self.size, group.step + group.steps))

    def drafts(self, line: int, team: Team) -> dict[str, tuple[int, int]]:
        """Expert -> (block, step) of its draft for the line."""
        found = {}
        for group in self.groups:
            if group.stage == 1 and group.expert in team.experts:
                own = self.lines[group.step : group.step + group.steps]
                at = int(np.searchsorted(own, line))
                found[group.expert] = (group.block + at // self.size, group.step + at)
        return found


def loads(groups: Sequence[Group]) -> int:
    """Experts that are loaded for them, one after the other in each family: one that goes on is not loaded again."""
    order: dict[str, list[str]] = {}
    for group in groups:
        own = order.setdefault(group.family, [])
        if group.expert != NOBODY and own[-1:] != [group.expert]:
            own.append(group.expert)
    return sum(map(len, order.values()))


def make(
    codes: Codes, teams: Sequence[Team], families: Mapping[str, str], size: int, resident: Sequence[str] = ()
) -> Plan:
    """codes: (N,) of each line its team, or BAD. families: expert -> family. size: steps of a block.

    resident: experts that are loaded now; each comes first in its family. One that writes for others comes last in its
    family's stage 1, so that stage 2 finds it loaded.
    """
    writers = {team.writer for team in teams if team.is_several}
    members: dict[str, list[int]] = {}
    answers: dict[str, list[int]] = {}
    for code, team in enumerate(teams):
        for expert in team.experts:
            members.setdefault(expert, []).append(code)
        if team.is_several:
            answers.setdefault(team.writer or NOBODY, []).append(code)
    counts = np.bincount(codes[codes != BAD], minlength=len(teams)) if len(teams) else np.zeros(0, np.intp)

    def first(expert: str) -> tuple[str, bool, bool, int, str]:
        lines = -int(counts[members.get(expert, [])].sum())
        family = families.get(expert, NOBODY)
        return family, expert not in resident, expert in writers, lines, expert

    groups: list[Group] = []
    parts: list[Lines] = []
    block = step = 0
    for stage, by_expert in ((1, members), (2, answers)):
        for expert in sorted(by_expert, key=first):
            own = np.flatnonzero(np.isin(codes, by_expert[expert])).astype(np.int32)
            if not len(own):
                continue
            blocks = -(-len(own) // size)
            groups.append(Group(stage, families.get(expert, NOBODY), expert, block, blocks, step, len(own)))
            parts.append(own)
            block, step = block + blocks, step + len(own)
    return Plan(tuple(groups), np.concatenate(parts) if parts else np.zeros(0, np.int32), size)


def seconds(groups: Sequence[Group], rates: Mapping[str, float], load_s: Mapping[str, float]) -> float | None:
    """How long the work takes; None if nothing is known of an expert's rate.

    rates: expert -> steps a second. load_s: expert -> seconds of a load, nothing where it is missing. Families work at
    the same time; within one the experts come one after the other.
    """
    if any(group.expert not in rates for group in groups):
        return None
    total = 0.0
    for stage in (1, 2):
        sums: dict[str, float] = {}
        for group in groups:
            if group.stage == stage:
                took = group.steps / rates[group.expert] + load_s.get(group.expert, 0.0)
                sums[group.family] = sums.get(group.family, 0.0) + took
        total += max(sums.values(), default=0.0)
    return total
