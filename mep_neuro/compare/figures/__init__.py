"""The figures of the page: each is drawn from the comparison's document alone, as SVG that stands in the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mep_neuro.compare.figures.accuracy import joules_by_accuracy
from mep_neuro.compare.figures.batches import joules_by_batch
from mep_neuro.compare.figures.canvas import PageFigure
from mep_neuro.compare.figures.phases import joules_by_phase
from mep_neuro.compare.figures.steps import ratio_by_steps
from mep_neuro.compare.figures.tornado import tornado

__all__ = [
    "PageFigure",
    "figures",
    "joules_by_accuracy",
    "joules_by_batch",
    "joules_by_phase",
    "ratio_by_steps",
    "tornado",
]


def figures(document: Mapping[str, Any]) -> tuple[PageFigure, ...]:
    """All of them, in the page's order. Needs matplotlib."""
    return (
        joules_by_accuracy(document),
        joules_by_phase(document),
        joules_by_batch(document),
        ratio_by_steps(document),
        tornado(document),
    )
