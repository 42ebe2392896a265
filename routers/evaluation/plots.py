"""Plots as inline SVG: points, lines, dots in rows, and a matrix. Text takes the page's colour, nothing is loaded."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 680
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 12, 44
_ROW = 20
"""Pixels of a row of dots."""


@dataclass(frozen=True, slots=True)
class Series:
    """(x, y) points of one colour. line: joined in their order. labels: a text at each point, or none at all."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]
    line: bool = False
    labels: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class _Scale:
    """Values to pixels."""

    low: float
    high: float
    first: float
    last: float

    def __call__(self, value: float) -> float:
        return self.first + (value - self.low) / (self.high - self.low) * (self.last - self.first)

    @classmethod
    def around(cls, values: Iterable[float], first: float, last: float) -> "_Scale":
        """With a margin on both sides; a single value stands in the middle."""
        known = [value for value in values if math.isfinite(value)] or [0.0]
        low, high = min(known), max(known)
        margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
        return cls(low - margin, high + margin, first, last)

    def ticks(self, about: int = 5) -> list[float]:
        """Round numbers in the range."""
        rough = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(rough))
        step = min((power * m for m in (1, 2, 5, 10)), key=lambda step: abs(step - rough))
        first = math.ceil(self.low / step)
        return [number * step for number in range(first, math.floor(self.high / step) + 1)]


def plot(series: Sequence[Series], x_label: str, y_label: str, *, diagonal: bool = False, height: int = 340) -> str:
    """A plane of points and lines; diagonal: draws y = x, on equal ranges of both."""
    xs = [x for own in series for x, _ in own.points]
    ys = [y for own in series for _, y in own.points]
    if diagonal:
        xs = ys = [0.0, 1.0]
    x = _Scale.around(xs, _LEFT, WIDTH - _RIGHT)
    y = _Scale.around(ys, height - _BOTTOM, _TOP)
    body = [*_axes(x, y, height), _text(WIDTH / 2, height - 8, x_label, "middle"), _upright(14, height / 2, y_label)]
    if diagonal:
        body.append(_line([(x(0), y(0)), (x(1), y(1))], "#999", dashed=True))
    for own in series:
        at = [(x(a), y(b)) for a, b in own.points]
        if own.line:
            body.append(_line(at, own.colour))
        for place, (a, b) in enumerate(at):
            label = own.labels[place] if own.labels else own.name
            body.append(_dot(a, b, own.colour, f"{label}: {own.points[place][0]:.4g}, {own.points[place][1]:.4g}"))
            if own.labels:
                right = a < WIDTH * 0.7
                body.append(_text(a + (7 if right else -7), b + 4, label, "start" if right else "end"))
    return _svg(body, WIDTH, height) + legend([(own.name, own.colour) for own in series])


def dots(
    rows: Mapping[str, Mapping[str, float]],
    colours: Mapping[str, str],
    x_label: str,
    spans: Mapping[str, tuple[float, float]] | None = None,
) -> str:
    """A row for each name, a dot for each of its values. spans: name -> a bar behind its dots, such as an interval."""
    left, spans = 12 + 7 * min(30, max((len(name) for name in rows), default=0)), spans or {}
    height = _TOP + _ROW * len(rows) + _BOTTOM
    values = [value for row in rows.values() for value in row.values()] + [
        end for span in spans.values() for end in span
    ]
    x = _Scale.around(values, left, WIDTH - _RIGHT)
    body = [*_ticks(x, height), _text((left + WIDTH) / 2, height - 8, x_label, "middle")]
    for place, (name, row) in enumerate(rows.items()):
        y = _TOP + _ROW * (place + 0.5)
        body.append(_text(left - 8, y + 4, _short(name), "end", title=name))
        body.append(f'<line x1="{left}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        if name in spans:
            low, high = map(x, spans[name])
            body.append(
                f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="#888" stroke-width="5"/>'
            )
        for number, (key, value) in enumerate(row.items()):  # smaller ones on top, so that equal values are all seen
            body.append(
                _dot(x(value), y, colours[key], f"{name}, {key}: {value:.4g}", 4.5 + 1.7 * (len(row) - 1 - number))
            )
    return _svg(body, WIDTH, height) + (legend(list(colours.items())) if len(colours) > 1 else "")


def matrix(rows: Sequence[str], columns: Sequence[str], shares: Sequence[Sequence[float]], titles: str) -> str:
    """Shares in [0, 1], darker for more. titles: what rows and columns are."""
    left = 12 + 7 * min(30, max(map(len, rows), default=0))
    top = 12 + 7 * min(30, max(map(len, columns), default=0))
    cell = max(9, min(28, (WIDTH - left) // max(1, len(columns))))
    body = []
    for i, row in enumerate(rows):
        y = top + cell * i
        body.append(_text(left - 6, y + cell / 2 + 4, _short(row), "end", title=row))
        for j, column in enumerate(columns):
            share = shares[i][j]
            tip = escape(f"{row} → {column}: {100 * share:.0f} %")
            body.append(
                f'<rect x="{left + cell * j}" y="{y}" width="{cell - 1}" height="{cell - 1}" fill="#1f6feb" '
                f'fill-opacity="{0.04 + 0.96 * share:.3f}"><title>{tip}</title></rect>'
            )
            if cell >= 22 and share >= 0.005:
                body.append(
                    _text(left + cell * (j + 0.5), y + cell / 2 + 4, f"{100 * share:.0f}", "middle", small=True)
                )
    for j, column in enumerate(columns):
        body.append(_upright(left + cell * (j + 0.5) + 4, top - 6, _short(column), "start"))
    return f"<p>{escape(titles)}</p>" + _svg(body, left + cell * len(columns) + 4, top + cell * len(rows) + 4)


def legend(entries: Sequence[tuple[str, str]]) -> str:
    marks = "".join(
        f'<span><svg width="10" height="10"><circle cx="5" cy="5" r="4" fill="{colour}"/></svg> {escape(name)}</span>'
        for name, colour in entries
    )
    return f'<p class="legend">{marks}</p>'


def _axes(x: _Scale, y: _Scale, height: int) -> list[str]:
    marks = _ticks(x, height)
    for tick in y.ticks():
        marks.append(f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#ddd"/>')
        marks.append(_text(_LEFT - 6, y(tick) + 4, f"{tick:.4g}", "end"))
    return marks


def _ticks(x: _Scale, height: int) -> list[str]:
    marks = []
    for tick in x.ticks():
        at = f"{x(tick):.1f}"
        marks.append(f'<line x1="{at}" x2="{at}" y1="{_TOP}" y2="{height - _BOTTOM}" stroke="#ddd"/>')
        marks.append(_text(x(tick), height - _BOTTOM + 16, f"{tick:.4g}", "middle"))
    return marks


def _svg(body: Sequence[str], width: float, height: float) -> str:
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">{"".join(body)}</svg>'


def _text(x: float, y: float, text: str, anchor: str, *, title: str = "", small: bool = False) -> str:
    tip = f"<title>{escape(title)}</title>" if title else ""
    size = ' font-size="10"' if small else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{size}>{escape(text)}{tip}</text>'


def _upright(x: float, y: float, text: str, anchor: str = "middle") -> str:
    at = f"{x:.1f} {y:.1f}"
    return f'<text transform="translate({at}) rotate(-90)" text-anchor="{anchor}">{escape(text)}</text>'


def _line(points: Sequence[tuple[float, float]], colour: str, *, dashed: bool = False) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dash = ' stroke-dasharray="4 4"' if dashed else ""
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'


def _dot(x: float, y: float, colour: str, title: str, radius: float = 4.5) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{colour}"><title>{escape(title)}</title></circle>'


def _short(name: str) -> str:
    return name if len(name) <= 30 else f"{name[:29]}…"
