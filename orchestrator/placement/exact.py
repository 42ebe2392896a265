"""The best placement there is, as a mixed-integer program, for small instances.

minimise    balance * t + apart * sum_p share_p / (n_a n_b) * sum_w z[p, w]
            + copies * sum_w used_w / bytes + spill * sum_w over_w / bytes + spread * sum_e,n v[e, n] / several
            + move * moved / time
where       sum_w x[e, w] = n_e                                     so many workers for each expert
            x[e, w] <= y[image(e), w]                               and its image, or its base's, with it
            sum_e (load_e / n_e) x[e, w] <= mean * speed_w * t      t: load of the fullest worker over the mean
            used_w = sum_i size_i y[i, w] + sum_e own_e x[e, w] <= room_w
            over_w >= used_w - device_w
            z[p, w] >= x[a, w] + x[b, w] - 1                        p = (a, b) answer the same requests
            v[e, n] >= sum_(w on n) x[e, w] - 1                     copies that share a node
            moved = sum of seconds of y and x that are new <= budget
            x in {0, 1}

Unrelated machines with assignment constraints (Lenstra, Shmoys and Tardos, Math. Programming 46, 1990) with the memory
and affinity terms that placements of mixtures of experts have, which want the opposite of ours: there experts that work
together share a device, for the traffic (MoETuner, arXiv 2502.06643); here they are whole LLMs, and are to run side by
side.
"""

from typing import Any

import numpy as np

from orchestrator.placement.model import Bools, Floats, Problem

LIMIT_S = 5.0


def solve(problem: Problem, limit_s: float = LIMIT_S) -> tuple[Bools | None, bool]:
    """Who lives where, (E, W), and whether nothing is better. None where there is none, or none was found in time."""
    from scipy import sparse
    from scipy.optimize import Bounds, LinearConstraint, milp

    p, w = problem, problem.weights
    experts, workers = p.held.shape
    images, pairs = len(p.size), len(p.pairs)
    nodes = int(p.node.max()) + 1
    several = np.flatnonzero(p.copies > 1)
    blocks = {"x": experts * workers, "y": images * workers, "t": 1, "over": workers}
    blocks |= {"z": pairs * workers, "v": len(several) * nodes}
    eye = sparse.eye_array(workers)

    def row(**parts: Any) -> Any:
        """A block of constraints; a part that is left out has no say in it."""
        height = next(iter(parts.values())).shape[0]
        return sparse.hstack(
            [sparse.csr_array(parts.get(name, sparse.csr_array((height, size)))) for name, size in blocks.items()]
        )

    def picks(indices: Any, of: int) -> Any:
        """(len(indices), of): 1 where a row's index is."""
        return sparse.csr_array((np.ones(len(indices)), (np.arange(len(indices)), indices)), (len(indices), of))

    each = sparse.kron(sparse.eye_array(experts), np.ones((1, workers)))
    size, own = p.size / p.bytes, p.own / p.bytes
    used = {"x": sparse.kron(own[None, :], eye), "y": sparse.kron(size[None, :], eye)}
    held = p.images(p.held)
    new_x = (p.own_s[:, None] * ~p.held).ravel()
    new_y = (p.size_s[:, None] * ~held).ravel()
    load = sparse.kron((p.share / p.mean)[None, :], sparse.diags_array(1 / p.speed))
    limits: list[Any] = [
        LinearConstraint(row(x=each), p.copies, p.copies),
        LinearConstraint(
            row(x=sparse.eye_array(experts * workers), y=-sparse.kron(picks(p.image, images), eye)), -np.inf, 0
        ),
        LinearConstraint(row(x=load, t=-np.ones((workers, 1))), -np.inf, 0),
        LinearConstraint(row(**used), -np.inf, np.minimum(p.room / p.bytes, 1e6)),
        LinearConstraint(row(**used, over=-eye), -np.inf, np.minimum(p.device / p.bytes, 1e6)),
    ]
    if pairs:
        both = picks([a for a, _, _ in p.pairs], experts) + picks([b for _, b, _ in p.pairs], experts)
        limits.append(LinearConstraint(row(x=sparse.kron(both, eye), z=-sparse.eye_array(pairs * workers)), -np.inf, 1))
    if len(several):
        at = sparse.kron(picks(several, experts), picks(p.node, nodes).T)
        limits.append(LinearConstraint(row(x=at, v=-sparse.eye_array(len(several) * nodes)), -np.inf, 1))
    if np.isfinite(p.budget_s):
        limits.append(LinearConstraint(row(x=new_x[None, :], y=new_y[None, :]), -np.inf, p.budget_s))
    price: dict[str, Floats] = {
        "x": w.copies * np.repeat(own, workers) + w.move / p.time * new_x,
        "y": w.copies * np.repeat(size, workers) + w.move / p.time * new_y,
        "t": np.array([w.balance]),
        "over": np.full(workers, w.spill),
        "z": np.repeat([w.apart * share / float(p.copies[a] * p.copies[b]) for a, b, share in p.pairs], workers),
        "v": np.full(len(several) * nodes, w.spread / p.several),
    }
    most = np.concatenate(
        [np.full(size, np.inf if name in ("t", "over", "v") else 1.0) for name, size in blocks.items()]
    )
    most[: blocks["x"]] = p.allowed.ravel()
    result = milp(
        c=np.concatenate([price[name] for name in blocks]),
        integrality=np.concatenate([np.full(size, name == "x") for name, size in blocks.items()]).astype(np.int_),
        bounds=Bounds(0, most),
        constraints=limits,
        options={"time_limit": limit_s, "mip_rel_gap": 1e-6},
    )
    if result.x is None:
        return None, result.status == 2
    found: Bools = np.asarray(result.x[: blocks["x"]]).reshape(experts, workers) > 0.5
    return found, result.status == 0
