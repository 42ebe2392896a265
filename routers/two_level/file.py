"""The folder of a fitted two-level router: `router.json` (names, thresholds, version) and `router.npz` (arrays)."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from routers.encoders.base import Encoder
from routers.encoders.style import STYLE
from routers.folder import (
    Array,
    Arrays,
    Header,
    archived,
    checked,
    digest,
    opened,
    read_header,
    same_encoder,
    write_router,
)
from routers.two_level.level1 import Density, Level1, Limit
from routers.two_level.model import Fitted, Level2
from routers.two_level.parts import (
    Stage,
    committee_arrays,
    read_committees,
    read_second,
    second_arrays,
    stages,
)


class _Header(Header):
    format: Literal["coe-two-level-router"] = "coe-two-level-router"
    version: Literal[4] = 4
    categories: tuple[str, ...] = Field(min_length=1)
    general: str
    experts: tuple[str, ...] = Field(min_length=1)
    fallback: str | None
    entropy: Limit
    distance: Limit
    mixture: bool
    second: tuple[Stage, ...] | None
    committees: tuple[Annotated[int, Field(ge=2)], ...] | None
    figures: dict[str, float]
    arrays_sha256: str


def write(fitted: Fitted, folder: Path) -> None:
    """Writes both files; each appears whole or not at all."""
    level1, level2 = fitted.level1, fitted.level2
    content: dict[str, Array] = {
        "coef": level1.coef,
        "intercept": level1.intercept,
        "references": level1.references,
        **{name: getattr(level1.density, name) for name in Density.__slots__},
        "quality": level2.quality,
        "prior": level2.prior,
        "first": level2.first,
    }
    if fitted.second is not None:
        content |= second_arrays(fitted.second)
    if fitted.committees is not None:
        content |= committee_arrays(fitted.committees)
    arrays = archived(content)
    header = _Header(
        encoder=fitted.encoder,
        dim=level1.coef.shape[1],
        categories=fitted.categories,
        general=fitted.general,
        experts=fitted.experts,
        fallback=fitted.fallback,
        entropy=level1.entropy,
        distance=level1.distance,
        mixture=level2.mixture,
        second=None if fitted.second is None else stages(fitted.second),
        committees=None if fitted.committees is None else tuple(fitted.committees.sizes),
        figures=level1.figures,
        arrays_sha256=digest(arrays),
    )
    write_router(folder, header, arrays)


def read(folder: Path, encoder: Encoder) -> Fitted:
    """The router in `folder`. Raises RouterFileError."""
    header = read_header(folder, _Header)
    same_encoder(folder, header, encoder)
    rows, columns = len(header.categories) + (header.general not in header.categories), len(header.experts)
    with opened(folder, header.arrays_sha256) as arrays:
        coef = checked(arrays["coef"], "f", (len(header.categories), header.dim))
        intercept = checked(arrays["intercept"], "f", (len(header.categories),))
        references = checked(arrays["references"], "f", (None, header.dim))
        density = _density(arrays, header.dim)
        quality = checked(arrays["quality"], "f", (rows, columns))
        prior = checked(arrays["prior"], "f", (rows,))
        first = checked(arrays["first"], "i", (rows,)).astype(np.intp)
        if not ((first >= -1) & (first < columns)).all():
            raise ValueError("'first' names an expert that does not exist")
        second, committees = None, None
        if header.second is not None:
            second = read_second(arrays, header.second, len(references), columns, header.dim)
        if header.committees is not None:
            committees = read_committees(arrays, header.committees, rows, columns)
    return Fitted(
        encoder=header.encoder,
        categories=header.categories,
        general=header.general,
        experts=header.experts,
        fallback=header.fallback,
        level1=Level1(
            coef=coef.astype(np.float32),
            intercept=intercept.astype(np.float32),
            references=references.astype(np.float32),
            density=density,
            entropy=header.entropy,
            distance=header.distance,
            figures=header.figures,
        ),
        level2=Level2(quality.astype(np.float64), prior.astype(np.float64), first, header.mixture),
        second=second,
        committees=committees,
    )


def _density(arrays: Arrays, dim: int) -> Density:
    size = dim + STYLE
    shapes = {"style_mean": (STYLE,), "style_scale": (STYLE,), "whiten": (size, size), "centres": (None, size)}
    found = {name: checked(arrays[name], "f", shape).astype(np.float32) for name, shape in shapes.items()}
    return Density(**found, reach=checked(arrays["reach"], "f", (len(found["centres"]),)).astype(np.float32))
