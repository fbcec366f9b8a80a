"""Cross stage partial layers: Wang et al., "CSPNet", CVPR workshops 2020, as YOLOX and RTMDet use them.

input ──1x1──> main ──block──> ... ──block──┐
  └─────1x1──> short ───────────────────────┴─ concat ──1x1──>
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nasneck.graph import Act, Edge, Node, Norm, Op
from nasneck.graph.width import Width, scaled
from nasneck.necks.conv_norm_act import ConvNormAct

Block = Literal["darknet", "cspnext"]

STYLE = ConvNormAct(Norm(eps=1e-3, momentum=0.03), Act("silu"), init="torch")  # YOLOX's


@dataclass(frozen=True, slots=True)
class CspLayer:
    """What the layers of a neck have in common.

    Args:
        blocks: Number of blocks in the main branch.
        block: ``darknet``: a 1x1 and a 3x3 convolution; ``cspnext``: a 3x3 and a separable 5x5 one.
        depthwise: Separable 3x3 convolutions.
        expand: Width of both branches relative to the layer's.
        style: Its convolutions, norms and activations.
    """

    blocks: int = 3
    block: Block = "darknet"
    depthwise: bool = False
    expand: float = 0.5
    style: ConvNormAct = STYLE

    def nodes(self, name: str, level: int, inputs: Sequence[Edge], *, of: int) -> list[Node]:
        """The nodes of a layer called ``name`` that joins ``inputs``, as wide as the feature of level ``of``."""
        width, inner = f"c{of}", scaled(f"c{of}", self.expand)
        joined = Node(f"{name}_in", level, "concat", inputs)
        main = Node(f"{name}_main", level, "sum", [Edge(joined.name, ())], self.style(1, inner))
        made = [joined, main]
        for number in range(self.blocks):
            ops = self._block(inner)
            made.append(Node(f"{name}_block{number}", level, "sum", [Edge(made[-1].name, ())], ops))
        last = made[-1]
        short = Node(f"{name}_short", level, "sum", [Edge(joined.name, ())], self.style(1, inner))
        out = Node(name, level, "concat", [Edge(last.name, ()), Edge(short.name, ())], self.style(1, width))
        return [*made, short, out]

    def _block(self, inner: Width) -> tuple[Op, ...]:
        conv = self.style.separable if self.depthwise else self.style
        if self.block == "cspnext":
            return *conv(3, inner), *self.style.separable(5, inner)
        return *self.style(1, inner), *conv(3, inner)
