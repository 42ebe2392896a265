"""The optional parts of a fitted two-level router as plain arrays, and back: its second stage and its committees."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from routers.encoders import lexical
from routers.folder import Array, Arrays, checked
from routers.two_level.committee import Bench, Committees
from routers.two_level.second_stage import Looks, Neighbours, Regressors, SecondStage, Singles

Stage = Literal["neighbours", "regressors"]

_NUMBERS = 8


def stages(second: SecondStage) -> tuple[Stage, ...]:
    """Which stages there are."""
    found: list[Stage] = []
    if second.neighbours is not None:
        found.append("neighbours")
    if second.regressors is not None:
        found.append("regressors")
    return tuple(found)


def second_arrays(second: SecondStage) -> dict[str, Array]:
    """Its arrays by name."""
    near, fitted = second.neighbours, second.regressors
    numbers = np.zeros(_NUMBERS)
    numbers[:3] = second.categories, second.neighbours_weight, second.regressors_weight
    arrays: dict[str, Array] = {"second_basis": second.basis, "second_numbers": numbers}
    if near is not None:
        numbers[3:6] = near.count, near.temperature, near.damping
        arrays["second_residuals"] = near.residuals
    if fitted is not None:
        numbers[6:8] = fitted.sharpness, fitted.width
        arrays |= {
            "second_dual": fitted.dual,
            "second_words": fitted.words,
            "second_shares": fitted.shares,
            "second_forms": fitted.forms,
            "second_means": fitted.means,
            "second_idf": fitted.looks.idf,
            "second_mean": fitted.looks.mean,
            "second_scale": fitted.looks.scale,
        }
    return arrays


def read_second(arrays: Arrays, there: Sequence[Stage], references: int, experts: int) -> SecondStage:
    """What `second_arrays` wrote. Raises ValueError, KeyError."""
    numbers = checked(arrays["second_numbers"], "f", (_NUMBERS,)).astype(np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError("a number of the second stage is not finite")
    basis = _singles(arrays, "basis", (None, experts))
    rank = len(basis)
    near, fitted = None, None
    if "neighbours" in there:
        residuals = _singles(arrays, "residuals", (references, rank))
        near = Neighbours(residuals, int(numbers[3]), float(numbers[4]), float(numbers[5]))
    if "regressors" in there:
        fitted = Regressors(
            dual=_singles(arrays, "dual", (references, rank)),
            words=_singles(arrays, "words", (lexical.BUCKETS, rank)),
            shares=_singles(arrays, "shares", (references, int(numbers[0]))),
            forms=_singles(arrays, "forms", (references, lexical.FORM)),
            means=_singles(arrays, "means", (experts,)),
            looks=Looks(
                idf=_singles(arrays, "idf", (lexical.BUCKETS,)),
                mean=_singles(arrays, "mean", (lexical.FORM,)),
                scale=_singles(arrays, "scale", (lexical.FORM,)),
            ),
            sharpness=float(numbers[6]),
            width=float(numbers[7]),
        )
    return SecondStage(basis, int(numbers[0]), near, fitted, float(numbers[1]), float(numbers[2]))


def _singles(arrays: Arrays, name: str, shape: tuple[int | None, ...]) -> Singles:
    return checked(arrays[f"second_{name}"], "f", shape).astype(np.float32)


def committee_arrays(committees: Committees) -> dict[str, Array]:
    """Its arrays by name."""
    arrays: dict[str, Array] = {}
    for name, bench in [*committees.sizes.items(), ("all", committees.everyone)]:
        arrays[f"committees_{name}_members"] = bench.members
        arrays[f"committees_{name}_weights"] = bench.weights
        arrays[f"committees_{name}_of_row"] = bench.of_row
    return arrays


def read_committees(arrays: Arrays, sizes: Sequence[int], rows: int, experts: int) -> Committees:
    """What `committee_arrays` wrote. Raises ValueError, KeyError."""
    return Committees(
        {k: _bench(arrays, str(k), k, rows, experts) for k in sizes}, _bench(arrays, "all", None, rows, experts)
    )


def _bench(arrays: Arrays, name: str, k: int | None, rows: int, experts: int) -> Bench:
    members = checked(arrays[f"committees_{name}_members"], "i", (None, k)).astype(np.intp)
    shape = (len(members), rows, members.shape[1])
    weights = checked(arrays[f"committees_{name}_weights"], "f", shape).astype(np.float64)
    of_row = checked(arrays[f"committees_{name}_of_row"], "i", (rows,)).astype(np.intp)
    if not ((members >= 0) & (members < experts)).all() or not ((of_row >= -1) & (of_row < len(members))).all():
        raise ValueError(f"a committee of {name} names an expert or a committee that does not exist")
    if not (weights >= 0).all():
        raise ValueError(f"a committee of {name} has a weight below 0")
    return Bench(members, weights, of_row)
