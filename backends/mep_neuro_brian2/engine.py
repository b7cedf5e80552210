"""What runs the neurons: Brian2 in this process, or a compiled program."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from mep_neuro_brian2.layout import Array
from mep_neuro_brian2.schedule import Record, Rows


class Learnt(NamedTuple):
    """What was read in a run, and the weights and biases after it."""

    record: Record
    weights: Array
    biases: Array


class Engine(Protocol):
    """Runs rows of phases.

    settle_rows, learn_rows: rows of one run at most.
    """

    settle_rows: int
    learn_rows: int

    def settle(self, weights: Array, biases: Array, rows: Rows) -> Record:
        """Each row by itself, without learning."""

    def learn(self, weights: Array, biases: Array, rows: Rows, plastic: tuple[Array, Array]) -> Learnt:
        """The rows in turn, with learning on. plastic: 1 for each synapse and each neuron's bias that may change."""
