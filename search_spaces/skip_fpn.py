"""An example of a search space in Python: an FPN whose paths, skips and fusions are decided.

    [space]
    name = "search_spaces.skip_fpn:skip_fpn"

One path or two run over the levels that have a backbone feature, each up or down. A node joins its level's map
with its neighbour on the path; on a second path it may read the lateral once more. P6 and P7 are FPN's.
"""

from nasneck.decision import Choices, Decision
from nasneck.graph import Conv, Edge, NeckGraph, Node, Project
from nasneck.necks.pyramid import LevelRange, backbone_features, extra_levels
from nasneck.space import FunctionSpace

PATHS = (("down",), ("up",), ("down", "up"), ("up", "down"))
OPS = ("sum", "fast_normalized", "max")


def skip_fpn(inputs: LevelRange = (3, 5), levels: LevelRange = (3, 7)) -> FunctionSpace:
    """4 orders of paths, and for every level 3 fusions, with and without a skip: 864 vectors over C3..C5."""
    features, covered = backbone_features("skip_fpn", inputs, levels)
    decisions = [Decision("paths", len(PATHS), "paths")]
    for level in covered:
        decisions += [Decision(f"p{level}.op", len(OPS), "op"), Decision(f"p{level}.skip", 2, "skip")]

    def decode(choices: Choices) -> NeckGraph:
        paths = PATHS[choices[0]]
        op = dict(zip(covered, choices[1::2], strict=True))
        skip = dict(zip(covered, choices[2::2], strict=True))
        nodes = [*features, *(Node(f"lat{i}", i, "sum", [Edge(f"c{i}", [Project()])]) for i in covered)]
        current = {level: f"lat{level}" for level in covered}
        for number, direction in enumerate(paths):
            before = None
            for level in covered if direction == "up" else reversed(covered):
                sources = [current[level]]
                if before is not None:
                    sources.append(before)
                if number > 0 and skip[level]:
                    sources.append(f"lat{level}")
                before = f"{direction}{level}"
                # An edge that says nothing resamples to its reader's level. One source needs no fusion.
                fusion = OPS[op[level]] if len(sources) > 1 else "sum"
                nodes.append(Node(before, level, fusion, sources, [Conv(3)]))
                current[level] = before
        top = covered[-1]
        extras = extra_levels("skip_fpn", "output", True, top=top, last=levels[1], sources={"output": current[top]})
        outputs = current | {level: node.name for level, node in extras.items()}
        return NeckGraph([*nodes, *extras.values()], outputs=outputs, name="skip_fpn")

    return FunctionSpace("skip_fpn", decisions, decode)
