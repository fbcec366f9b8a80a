"""Every neck has a paper and a size, and nothing else has."""

from __future__ import annotations

import re

import pytest
import torch

from nasneck.compile import compile_neck
from nasneck.cost import count_macs, count_parameters
from nasneck.necks import NECKS
from nasneck.necks.papers import PAPERS
from nasneck.necks.sizes import CHANNELS, IMAGE_SIZE, SETTING, NeckSize, feature_widths, load_sizes


def test_every_neck_has_one_and_nothing_else_has() -> None:
    assert list(PAPERS) == list(NECKS)
    assert list(load_sizes()) == list(NECKS), "run python experiments/gallery.py"


@pytest.mark.parametrize("name", PAPERS)
def test_papers_are_whole(name: str) -> None:
    paper = PAPERS[name]
    assert paper.authors.endswith((" et al.", " and Tan")) and paper.title.startswith(paper.short_title) and paper.venue
    assert re.fullmatch(r"arXiv \d{4}\.\d{5}|google/automl \d+", paper.reference)
    assert paper.url.startswith("https://") and paper.url.endswith(paper.reference.split()[-1])
    if paper.reference.startswith("arXiv"):
        first_seen = 2000 + int(paper.reference.split()[1][:2])
        assert first_seen <= paper.year <= first_seen + 2
        assert paper.venue != "arXiv" or paper.year == first_seen


@pytest.mark.parametrize("name", NECKS)
def test_the_module_names_the_paper(name: str) -> None:
    """The first author of a neck is the one in the docstring of its module."""
    import importlib

    doc = importlib.import_module(NECKS[name].__module__).__doc__ or ""
    if not PAPERS[name].note:  # else the module is about what the neck takes from elsewhere
        assert PAPERS[name].authors in doc


@pytest.mark.parametrize("name", NECKS)
def test_sizes_are_those_of_today(name: str) -> None:
    graph = NECKS[name]()
    widths = {level: feature_widths(name)[level] for level in graph.input_levels}
    with torch.device("meta"):
        neck = compile_neck(graph, widths, CHANNELS)
    counted = NeckSize(count_parameters(neck), count_macs(neck, (IMAGE_SIZE, IMAGE_SIZE)))
    assert counted == load_sizes()[name], "run python experiments/gallery.py"


def test_sizes_in_words() -> None:
    assert NeckSize(3_868_672, 4_157_603_840).words == ("3.87 M", "4.16")
    assert NeckSize(20_000_000, 128_400_000_000).words == ("20.0 M", "128")
    assert "512x512" in SETTING and "width 256" in SETTING
