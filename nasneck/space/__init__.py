"""Search spaces: decisions, and graphs from choices."""

from nasneck.space.base import SearchSpace as SearchSpace
from nasneck.space.bidirectional import BidirectionalSpace as BidirectionalSpace
from nasneck.space.fixed import fixed_neck as fixed_neck
from nasneck.space.function import FunctionSpace as FunctionSpace
from nasneck.space.load import load_space as load_space
from nasneck.space.merging_cells import MergingCellSpace as MergingCellSpace
