"""A picture (SVG) of an engine's turns, from its event log."""

from collections.abc import Sequence
from html import escape

from workers.base import SwapEvent

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
    there = dict.fromkeys(resident, began)
    turn = (active, began)
    held: list[tuple[str, float, float]] = []
    turns: list[tuple[str, float, float]] = []
    loads: list[tuple[str, float, float]] = []
    for event in events:
        if event.kind == "loaded":
            there[event.image] = event.at
            loads.append((event.image, event.at - event.seconds, event.at))
        elif event.kind == "evicted" and event.image in there:
            held.append((event.image, there.pop(event.image), event.at))
        elif event.kind == "swap":
            turns.append((*turn, event.at))
            turn = (event.image, event.at)
    turns.append((*turn, ended))
    held += [(image, since, ended) for image, since in there.items()]

    def x(at: float) -> float:
        return _LEFT + max(0.0, at - began) * scale

    def bar(span: tuple[str, float, float], colour: str, inset: float) -> str:
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
    parts += [bar(span, _RESIDENT, 5) for span in held]
    parts += [bar(span, _LOAD, 8) for span in loads]
    parts += [bar(span, _TURN, 3) for span in turns]
    return "\n".join([*parts, "</svg>"]) + "\n"
