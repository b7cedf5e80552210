"""compare: one training run on several substrates, and by backpropagation, side by side in accuracy and joules."""

from mep_neuro.compare.compared_run import ComparedRun
from mep_neuro.compare.comparison import Comparison, compare

__all__ = ["ComparedRun", "Comparison", "compare"]
