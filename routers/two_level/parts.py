"""The optional parts of a fitted two-level router as plain arrays, and back: its second stage and its committees."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from routers.encoders import lexical
from routers.folder import Array, Arrays, checked
from routers.two_level.committee import Bench, Committees
from routers.two_level.second_stage import Looks, Neighbours, Regressors, SecondStage, Singles
from routers.two_level.trees import Forest, Trees

Stage = Literal["neighbours", "regressors", "trees"]

_NUMBERS = 10


def stages(second: SecondStage) -> tuple[Stage, ...]:
    """Which stages there are."""
    there: dict[Stage, object] = {
        "neighbours": second.neighbours,
        "regressors": second.regressors,
        "trees": second.trees,
    }
    return tuple(name for name, stage in there.items() if stage is not None)


def second_arrays(second: SecondStage) -> dict[str, Array]:
    """Its arrays by name."""
    near, fitted, trees = second.neighbours, second.regressors, second.trees
    numbers = np.zeros(_NUMBERS)
    numbers[:4] = second.categories, second.neighbours_weight, second.regressors_weight, second.trees_weight
    arrays: dict[str, Array] = {
        "second_basis": second.basis,
        "second_means": second.means,
        "second_idf": second.looks.idf,
        "second_mean": second.looks.mean,
        "second_scale": second.looks.scale,
        "second_numbers": numbers,
    }
    if near is not None:
        numbers[4:7] = near.count, near.temperature, near.damping
        arrays["second_residuals"] = near.residuals
    if fitted is not None:
        numbers[7:9] = fitted.sharpness, fitted.width
        arrays |= {
            "second_dual": fitted.dual,
            "second_words": fitted.words,
            "second_shares": fitted.shares,
            "second_forms": fitted.forms,
        }
    if trees is not None:
        numbers[9] = trees.forest.depth
        arrays |= {
            "second_feature": trees.forest.feature,
            "second_threshold": trees.forest.threshold,
            "second_left": trees.forest.left,
            "second_values": trees.forest.values,
            "second_roots": trees.forest.roots,
            "second_centre": trees.centre,
            "second_axes": trees.axes,
        }
    return arrays


def read_second(arrays: Arrays, there: Sequence[Stage], references: int, experts: int, dim: int) -> SecondStage:
    """What `second_arrays` wrote. Raises ValueError, KeyError."""
    numbers = checked(arrays["second_numbers"], "f", (_NUMBERS,)).astype(np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError("a number of the second stage is not finite")
    basis = _singles(arrays, "basis", (None, experts))
    rank = len(basis)
    near, fitted, trees = None, None, None
    if "neighbours" in there:
        residuals = _singles(arrays, "residuals", (references, rank))
        near = Neighbours(residuals, int(numbers[4]), float(numbers[5]), float(numbers[6]))
    if "regressors" in there:
        fitted = Regressors(
            dual=_singles(arrays, "dual", (references, rank)),
            words=_singles(arrays, "words", (lexical.BUCKETS, rank)),
            shares=_singles(arrays, "shares", (references, int(numbers[0]))),
            forms=_singles(arrays, "forms", (references, lexical.FORM)),
            sharpness=float(numbers[7]),
            width=float(numbers[8]),
        )
    if "trees" in there:
        trees = _read_trees(arrays, rank, dim, int(numbers[9]))
    return SecondStage(
        basis=basis,
        means=_singles(arrays, "means", (experts,)),
        looks=Looks(
            idf=_singles(arrays, "idf", (lexical.BUCKETS,)),
            mean=_singles(arrays, "mean", (lexical.FORM,)),
            scale=_singles(arrays, "scale", (lexical.FORM,)),
        ),
        categories=int(numbers[0]),
        neighbours=near,
        regressors=fitted,
        trees=trees,
        neighbours_weight=float(numbers[1]),
        regressors_weight=float(numbers[2]),
        trees_weight=float(numbers[3]),
    )


def _read_trees(arrays: Arrays, rank: int, dim: int, depth: int) -> Trees:
    axes = _singles(arrays, "axes", (None, dim))
    feature = checked(arrays["second_feature"], "i", (None,)).astype(np.int32)
    left = checked(arrays["second_left"], "i", (len(feature),)).astype(np.int32)
    roots = checked(arrays["second_roots"], "i", (None,)).astype(np.int32)
    values = _singles(arrays, "values", (None, rank))
    leaf = feature == -1
    # A child lies behind its parent: whatever the file holds, the way down ends.
    down = (left > np.arange(len(left))) & (left + 1 < len(left))
    if (
        not np.where(leaf, (left >= 0) & (left < len(values)), down).all()
        or not ((feature >= -1) & (feature < rank + lexical.FORM + len(axes))).all()
        or not (len(roots) and ((roots >= 0) & (roots < len(feature))).all() and 0 <= depth <= len(feature))
    ):
        raise ValueError("a tree of the second stage names a node, a leaf or a feature that does not exist")
    forest = Forest(feature, _singles(arrays, "threshold", (len(feature),)), left, values, roots, depth)
    return Trees(forest, _singles(arrays, "centre", (dim,)), axes)


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
