"""SVG elements as text, with numbers cut to a tenth of a pixel and every text escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from math import hypot

from nasneck.draw.geometry import Route
from nasneck.draw.style import GATE_COLOUR
from nasneck.draw.words import Mark

Point = tuple[float, float]
GATE_RADIUS = 6.5
_GLYPH_STEP = 11.0


def element(tag: str, body: str = "", /, **attributes: object) -> str:
    """An element; underscores in attribute names become hyphens, a trailing one falls away, None is left out."""
    texts = [
        f' {name.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for name, value in attributes.items()
        if value is not None and value != ""
    ]
    return f"<{tag}{''.join(texts)}>{body}</{tag}>" if body else f"<{tag}{''.join(texts)}/>"


def label(x: float, y: float, text: str, size: float, fill: str, **attributes: object) -> str:
    """A line of text."""
    return element("text", escape(text, quote=False), x=x, y=y, font_size=size, fill=fill, **attributes)


def typeset(text: str) -> str:
    """``text`` with real multiplication signs and arrows."""
    return re.sub(r"(?<=\d)x(?=\d)|\bx(?= \d)", "×", text).replace("->", "→")


def tooltip(text: str) -> str:
    """What appears when the pointer rests on the element that holds this."""
    return element("title", escape(text, quote=False))


def rectangle(x: float, y: float, width: float, height: float, **attributes: object) -> str:
    """A rectangle by its top left corner."""
    return element("rect", x=x, y=y, width=width, height=height, **attributes)


def route_path(route: Route, *, stop: float) -> str:
    """The ``d`` of a route, ending ``stop`` pixels before its target."""
    pieces = route.pieces
    left, right, y = pieces[0]
    commands = [f"M{_text(left)} {_text(y)}"]
    if right > left:
        commands.append(f"H{_text(right)}")
    for i, (left, end, to) in enumerate(pieces[1:], 1):
        if i == len(pieces) - 1:
            left, end = min(left, end - stop), end - stop
        if to == y:
            commands.append(f"H{_text(end)}")
        else:
            middle = (right + left) / 2
            numbers = (middle, y, middle, to, left, to)
            commands.append("C" + " ".join(map(_text, numbers)))
            if end > left:
                commands.append(f"H{_text(end)}")
        right, y = end, to
    return " ".join(commands)


def mark_points(route: Route, count: int) -> list[Point]:
    """Where the glyphs of a route's ops stand: on its last flat piece on the way, else half way, along the line."""
    (_, left, y), (right, _, to) = route.pieces[0], route.pieces[-1]
    along = (1.0, 0.0)
    if len(route.pieces) > 2:
        left, right, y = route.pieces[-2]
        to = y
    elif right > left:
        # The middle of the S-curve rises twice as steeply as the line between its ends.
        length = hypot(right - left, 2 * (to - y))
        along = ((right - left) / length, 2 * (to - y) / length)
    x, y = (left + right) / 2, (y + to) / 2
    steps = [_GLYPH_STEP * (i - (count - 1) / 2) for i in range(count)]
    return [(x + step * along[0], y + step * along[1]) for step in steps]


def arrow_head(tip: Point, colour: str) -> str:
    """A triangle that points right."""
    x, y = tip
    return polygon([(x - 7, y - 3.6), (x, y), (x - 7, y + 3.6)], fill=colour)


def polygon(points: Sequence[Point], **attributes: object) -> str:
    """A closed polygon."""
    return element("polygon", points=" ".join(f"{_text(x)},{_text(y)}" for x, y in points), **attributes)


def gate_sign(x: float, y: float) -> list[str]:
    """The sign at the end of an edge that gates."""
    return [
        element("circle", cx=x, cy=y, r=GATE_RADIUS, fill=GATE_COLOUR, stroke="#ffffff"),
        label(x, y + 3.4, "σ", 10, "#ffffff", text_anchor="middle", font_weight="bold"),
    ]


def glyph(mark: Mark, centre: Point, colour: str) -> str:
    """The sign of an op on an edge: square 1x1 convolution, diamond other convolution, triangle pool."""
    x, y = centre
    looks = {"fill": colour, "stroke": "#ffffff", "stroke_width": 1.2}
    match mark:
        case "conv1x1":
            return rectangle(x - 4.2, y - 4.2, 8.4, 8.4, **looks)
        case "conv":
            return polygon([(x - 6.2, y), (x, y - 6.2), (x + 6.2, y), (x, y + 6.2)], **looks)
        case "pool":
            return polygon([(x - 5.6, y - 4.6), (x + 5.6, y - 4.6), (x, y + 5.6)], **looks)
        case "other":
            return element("circle", cx=x, cy=y, r=4.2, **(looks | {"fill": "#ffffff", "stroke": colour}))


def _text(value: object) -> str:
    return f"{value + 0.0:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
