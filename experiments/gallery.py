"""Draw every fixed neck, count what it costs, and write the gallery of the README.

    python experiments/gallery.py           # rewrites sizes, drawings and README.md between the markers
    python experiments/gallery.py --check   # says whether drawings and README are up to date (exit status 1 if not)

Drawings go to ``experiments/gallery/NAME.svg``, sizes to ``nasneck/necks/sizes.json``; ``--check`` takes the sizes from
there, so it needs no torch.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from xml.etree import ElementTree

from nasneck.draw import draw_svg
from nasneck.draw.repeats import collapse
from nasneck.draw.words import levels_words
from nasneck.graph import NeckGraph
from nasneck.necks import NECKS
from nasneck.necks.papers import PAPERS
from nasneck.necks.sizes import CHANNELS, IMAGE_SIZE, SETTING, SIZES_FILE, NeckSize, feature_widths, load_sizes

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path("experiments/gallery")
BEGIN, END = "<!-- gallery: begin -->", "<!-- gallery: end -->"

# Options with which a neck is drawn smaller than it is; the caption tells.
REDUCED: dict[str, dict[str, int]] = {
    "mlfpn": {"tums": 2},
    "mnasfpn": {"repeats": 2},
    "fpg": {"stacks": 5},
    "gfpn": {"depth": 2},
}
IN_A_ROW, WIDTH = 2, 420
WIDE = 1700  # pixels from which a drawing takes a row of its own, after all others


def main() -> int:
    """Write or check everything."""
    check = "--check" in sys.argv[1:]
    if not check:
        write_sizes()
    drawings = {FOLDER / f"{name}.svg": drawing(name) for name in NECKS}
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    wanted = {**drawings, Path("README.md"): with_gallery(text)}
    stale = [path for path in (ROOT / FOLDER).glob("*.svg") if path.relative_to(ROOT) not in drawings]
    if check:
        old = [path for path, new in wanted.items() if not (ROOT / path).is_file() or (ROOT / path).read_text() != new]
        print(*old, *stale, sep="\n", end="")
        return int(bool(old or stale))
    (ROOT / FOLDER).mkdir(exist_ok=True)
    for path in stale:
        path.unlink()
    for path, new in wanted.items():
        (ROOT / path).write_text(new, encoding="utf-8")
    return 0


def write_sizes() -> None:
    """Count the parameters and multiply-adds of every neck."""
    lines = []
    for name in NECKS:
        size = counted(name)
        lines.append(f'  "{name}": {{"parameters": {size.parameters}, "macs": {size.macs}}}')
    SIZES_FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def counted(name: str) -> NeckSize:
    """The size of one neck at the setting that ``nasneck.necks.sizes`` states."""
    import torch

    from nasneck.compile import compile_neck
    from nasneck.cost import count_macs, count_parameters

    graph = NECKS[name]()
    widths = {level: feature_widths(name)[level] for level in graph.input_levels}
    with torch.device("meta"):
        neck = compile_neck(graph, widths, CHANNELS)
    return NeckSize(count_parameters(neck), count_macs(neck, (IMAGE_SIZE, IMAGE_SIZE)))


def shown(name: str) -> NeckGraph:
    """The graph that is drawn."""
    return NECKS[name](**REDUCED.get(name, {}))


def drawing(name: str) -> str:
    """The SVG of one neck."""
    options = ",".join(f"{option}={value}" for option, value in REDUCED.get(name, {}).items())
    return draw_svg(shown(name), title=f"{name}:{options}" if options else name)


def with_gallery(text: str) -> str:
    """``text``, which has the markers, with the gallery between them."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"README.md lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n{gallery()}{END}{after}"


def gallery() -> str:
    """The drawings in a grid, each with paper and size."""
    sizes = load_sizes()
    wide = [name for name in NECKS if drawn_width(name) >= WIDE]
    cells = [cell(name, sizes[name]) for name in NECKS if name not in wide]
    rows = ["".join(cells[i : i + IN_A_ROW]) for i in range(0, len(cells), IN_A_ROW)]
    rows += [cell(name, sizes[name], span=IN_A_ROW) for name in wide]
    table = "\n".join(f"<tr>\n{row}</tr>" for row in rows)
    return f"""
Parameters and multiply-adds: {SETTING}. Click on a drawing for its details.

<table>
{table}
</table>

"""


def drawn_width(name: str) -> float:
    """Width of a drawing in pixels."""
    return float(ElementTree.fromstring(drawing(name)).get("width", "0"))


def cell(name: str, size: NeckSize, *, span: int = 1) -> str:
    """One neck, over ``span`` columns."""
    paper, path = PAPERS[name], FOLDER / f"{name}.svg"
    parameters, gmacs = size.words
    lines = [
        f'<a href="{path}"><img src="{path}" width="{span * WIDTH}" alt="{name}"></a>',
        f"<b>{name}</b>, {levels_words(NECKS[name]()).replace('->', '→')}",
        f'{paper.authors}, <a href="{paper.url}">{paper.short_title}</a>, {paper.published}',
        *([paper.note] if paper.note else []),
        f"{parameters} parameters, {gmacs} GMACs",
        *reductions(name),
    ]
    columns = f' colspan="{span}"' if span > 1 else f' width="{100 // IN_A_ROW}%"'
    return f'<td align="center" valign="top"{columns}>{"<br>".join(lines)}</td>\n'


def reductions(name: str) -> list[str]:
    """What the drawing leaves out."""
    signature = inspect.signature(NECKS[name]).parameters
    said = [
        f"drawn with {option}={value} in place of {signature[option].default}"
        for option, value in REDUCED.get(name, {}).items()
    ]
    collapsed = collapse(shown(name))
    if collapsed is not None:
        said.append(f"one of {collapsed.count} repeats drawn")
    return [f"<i>{words}</i>" for words in said]


if __name__ == "__main__":
    sys.exit(main())
