"""Necks as data: nodes, edges, the graph they make, its identity. No torch in here."""

from nasneck.graph.fusion import Attention as Attention
from nasneck.graph.fusion import Concat as Concat
from nasneck.graph.fusion import FastNormalized as FastNormalized
from nasneck.graph.fusion import Fusion as Fusion
from nasneck.graph.fusion import Gate as Gate
from nasneck.graph.fusion import Input as Input
from nasneck.graph.fusion import Max as Max
from nasneck.graph.fusion import Mean as Mean
from nasneck.graph.fusion import PixelWeighted as PixelWeighted
from nasneck.graph.fusion import Softmax as Softmax
from nasneck.graph.fusion import Sum as Sum
from nasneck.graph.neck_graph import NeckGraph as NeckGraph
from nasneck.graph.node import Edge as Edge
from nasneck.graph.node import Node as Node
from nasneck.graph.node import input_node as input_node
from nasneck.graph.ops import Act as Act
from nasneck.graph.ops import AdaptivePool as AdaptivePool
from nasneck.graph.ops import Conv as Conv
from nasneck.graph.ops import GlobalPool as GlobalPool
from nasneck.graph.ops import Norm as Norm
from nasneck.graph.ops import Op as Op
from nasneck.graph.ops import Pool as Pool
from nasneck.graph.ops import Project as Project
from nasneck.graph.ops import Resample as Resample
from nasneck.graph.ops import SqueezeExcite as SqueezeExcite
