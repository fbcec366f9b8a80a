"""nasneck: neural architecture search for the pyramid necks of object detectors."""

from nasneck.compile import compile_neck as compile_neck
from nasneck.graph import Edge as Edge
from nasneck.graph import NeckGraph as NeckGraph
from nasneck.graph import Node as Node
from nasneck.space import SearchSpace as SearchSpace
from nasneck.space import load_space as load_space
