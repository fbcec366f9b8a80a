"""Drawings of neck graphs by pyramid level, as SVG and as text. No torch, no plotting library."""

from nasneck.draw.svg import draw_svg as draw_svg
from nasneck.draw.text import draw_text as draw_text
