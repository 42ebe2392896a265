"""A picture (SVG) of an engine's turns, from its event log."""

from collections.abc import Sequence
from html import escape

from workers.base import SwapEvent
from workers.timeline import Span, timeline

_ROW, _LEFT, _WIDTH, _TOP = 20, 150, 820, 34
_TURN, _RESIDENT, _LOAD, _TEXT, _GRID = "#1f5fa8", "#cfe0f3", "#c2410c", "#333333", "#e3e3e3"


def draw(
    events: Sequence[SwapEvent], experts: Sequence[str], resident: Sequence[str], active: str, began: float
) -> str:
    """Rows of experts over the seconds since `began` (Unix time): turns, images on the device, loads.

    events: since then, oldest first; resident: images on the device at that time; active: the expert with the turn.
    """
    ended = max([event.at for event in events], default=began) + 1.0
    scale = _WIDTH / (ended - began)
    told = timeline(events, began, ended, active=active, resident=resident)

    def x(at: float) -> float:
        return _LEFT + max(0.0, at - began) * scale

    def bar(span: Span, colour: str, inset: float) -> str:
        image, since, until = span
        y = _TOP + experts.index(image) * _ROW + inset
        width, high = max(1.0, x(until) - x(since)), _ROW - 2 * inset
        return f'<rect x="{x(since):.1f}" y="{y:.1f}" width="{width:.1f}" height="{high:.1f}" fill="{colour}"/>'

    height = _TOP + _ROW * len(experts) + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 20} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="100%" height="100%" fill="#ffffff"/><g fill="{_TEXT}">',
    ]
    for at, (label, colour) in enumerate((("turn", _TURN), ("image on the device", _RESIDENT), ("load", _LOAD))):
        parts.append(
            f'<rect x="{_LEFT + 170 * at}" y="9" width="14" height="12" fill="{colour}"/>'
            f'<text x="{_LEFT + 170 * at + 20}" y="19">{label}</text>'
        )
    bottom = _TOP + _ROW * len(experts)
    for second in range(0, int(ended - began) + 1, 5):
        mark = x(began + second)
        parts.append(f'<line x1="{mark:.1f}" y1="{_TOP}" x2="{mark:.1f}" y2="{bottom}" stroke="{_GRID}"/>')
        parts.append(f'<text x="{mark:.1f}" y="{bottom + 18}" text-anchor="middle">{second} s</text>')
    for row, expert in enumerate(experts):
        parts.append(f'<text x="{_LEFT - 8}" y="{_TOP + row * _ROW + 14}" text-anchor="end">{escape(expert)}</text>')
    parts.append("</g>")
    parts += [bar(span, _RESIDENT, 5) for span in told.residencies]
    parts += [bar(span, _LOAD, 8) for span in told.loads]
    parts += [bar(span, _TURN, 3) for span in told.turns]
    return "\n".join([*parts, "</svg>"]) + "\n"
