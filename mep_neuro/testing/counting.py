"""L4, counts: exact against a hand count, and additive over calls, samples and phases."""

from __future__ import annotations

import itertools

import torch

from mep_neuro.counts import OPERATIONS, PHASES, OperationCounts
from mep_neuro.testing.bench import Bench
from mep_neuro.testing.law import cases, deterministic, energy, law, macs, option, rate
from mep_neuro.testing.rig import Rig

LOOPED = ("hopfield", "resistive")
"""Energies whose blocks read their neighbours above and below at each update."""

PER_SAMPLE = ("macs", "accumulates", "neuron_updates")
"""Operations whose counts are proportional to the number of samples."""


@law("L4", cases, deterministic)
def counts_add_up(bench: Bench) -> None:
    """Two batches on one substrate count what each of them counts on a substrate of its own."""
    for case in bench.plain():
        alone = []
        for rows in ([0], [1, 2], [0, 1, 2]):
            with bench.open(case, settled=False) as rig:
                before = rig.substrate.counts()
                for part in ([0], [1, 2]) if len(rows) == 3 else (rows,):
                    _step(rig, torch.tensor(part))
                alone.append(rig.substrate.counts() - before)
        rig.require(
            alone[2] == alone[0] + alone[1],
            f"two batches count {_shown(alone[2])}; one and the other alone {_shown(alone[0] + alone[1])}",
        )


@law("L4", cases, deterministic)
def counts_grow_with_samples(bench: Bench) -> None:
    """A batch with each sample twice counts twice the macs, accumulates and neuron updates, in every phase."""
    for case in bench.cases:
        found = []
        for copies in (1, 2):
            with bench.open(case, settled=False) as rig:
                before = rig.substrate.counts()
                _step(rig, torch.arange(len(rig.x)).repeat(copies))
                found.append(rig.substrate.counts() - before)
        rig.require(
            found[1].samples == 2 * found[0].samples == 2 * len(rig.x), f"{found[1].samples} samples are counted"
        )
        for phase in PHASES:
            for operation in (o for o in OPERATIONS if o in PER_SAMPLE):
                one, two = found[0][phase, operation], found[1][phase, operation]
                rig.require(
                    two == 2 * one, f"{operation} of phase {phase!r}: {one} for a batch, {two} for it twice over"
                )


@law("L4", cases)
def counts_know_their_phase(bench: Bench) -> None:
    """Settling freely counts as free, under a nudge as nudged, a contrast as update; a sample is counted once."""
    for case in bench.plain():
        with bench.open(case, settled=False) as rig:
            readings = [rig.substrate.counts()]
            free = rig.free()
            readings.append(rig.substrate.counts())
            nudged = rig.nudged(rig.beta, free)
            readings.append(rig.substrate.counts())
            rig.contrast([(1.0, nudged), (-1.0, free)])
            readings.append(rig.substrate.counts())
            windows = [after - before for before, after in itertools.pairwise(readings)]
            for window, phase in zip(windows, ("free", "nudged", "update"), strict=True):
                here = {p for p, _ in window.entries} - {"input_output"}
                rig.require(here == {phase}, f"the {phase} phase counts under {sorted(here) or 'nothing'}")
            shown = [w.samples for w in windows]
            wanted = [len(rig.x) * rig.repeats, 0, 0]
            rig.require(shown == wanted, f"samples counted by free, nudged and contrast: {shown}; it must be {wanted}")


@law("L4", cases, rate, macs)
def forward_pass_is_a_hand_count(bench: Bench) -> None:
    """Where the free phase is the forward pass, its macs are the couplings' own: sum of n_l-1 n_l a sample."""
    for case in (*bench.plain(), *bench.chosen(layout="single")):
        if case.energy == "prediction_error" or case.layout == "single":
            with bench.open(case, settled=False) as rig:
                before = rig.substrate.counts()
                rig.free()
                found = (rig.substrate.counts() - before)["free", "macs"]
                wanted = sum(c.macs for c in rig.network.couplings) * len(rig.x) * rig.repeats
                rig.require(found == wanted, f"the free phase counts {found} macs; by hand it is {wanted}")


@law("L4", cases, rate, macs, deterministic, option("max_steps"), energy(*LOOPED))
def iterations_are_a_hand_count(bench: Bench) -> None:
    """One more iteration costs each coupling once forward and once back, but the clamped first one nothing."""
    for case in (c for c in bench.plain() if c.energy in LOOPED):
        found = []
        for steps in (4, 5):
            with bench.open(case, settled=False, max_steps=steps) as rig:
                before = rig.substrate.counts()
                free = rig.free()
                rig.nudged(rig.beta, free)
                found.append(rig.substrate.counts() - before)
        more = found[1] - found[0]
        for phase in ("free", "nudged"):
            wanted = 2 * sum(c.macs for c in rig.network.couplings[1:]) * len(rig.x)
            rig.require(
                more[phase, "macs"] == wanted,
                f"a fifth {phase} iteration counts {more[phase, 'macs']} macs; by hand it is {wanted}",
            )


@law("L4", cases, rate)
def updates_are_a_hand_count(bench: Bench) -> None:
    """A contrast of two phases takes n_l-1 n_l macs a sample twice, but once on the clamped coupling."""
    for case in bench.cases:
        with bench.open(case, settled=False) as rig:
            free = rig.free()
            terms = [(1.0, rig.nudged(rig.beta, free)), (-1.0, rig.nudged(rig.beta / 2, free))]
            before = rig.substrate.counts()
            rig.contrast(terms)
            found = (rig.substrate.counts() - before)["update", "macs"]
            first, *others = (c.macs for c in rig.network.couplings)
            wanted = (first + 2 * sum(others)) * len(rig.x) * rig.repeats
            rig.require(found == wanted, f"the contrast of two phases counts {found} macs; by hand it is {wanted}")


def _step(rig: Rig, rows: torch.Tensor) -> None:
    """One step of learning on some of the samples."""
    free = rig.free(rig.x[rows])
    nudged = rig.nudged(rig.beta, free, target=rig.target[rows])
    rig.contrast([(1.0, nudged), (-1.0, free)])


def _shown(counts: OperationCounts) -> str:
    return f"{counts.samples} samples, {', '.join(f'{p} {o} {n}' for (p, o), n in counts.entries.items())}"
