"""L2, learning: the contrast of phases is the energy's own local statistic, the mean over the batch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mep_neuro.couplings import Dense
from mep_neuro.testing import oracle
from mep_neuro.testing.bench import Bench, distance, joined, worst
from mep_neuro.testing.law import cases, law, resident
from mep_neuro.testing.rig import Rig
from mep_neuro.types import Equilibrium


@law("L2", cases)
def contrast_is_the_energys_own(bench: Bench) -> None:
    """`contrast` is sum_k weight_k (-dE/dtheta)(s_k), the batch mean, at the states that the phases hold."""
    for case in bench.cases:
        with bench.open(case) as rig:
            free = rig.free()
            phases = [
                rig.nudged(rig.beta, free),
                rig.nudged(-rig.beta if bench.capabilities.negative_nudging else rig.beta / 2, free),
                free,
            ]
            made = [rig.altered(free, rig.anywhere(seed)) for seed in (1, 2)]
            for what, terms in {
                "two phases": list(zip((1.5, -1.5), phases, strict=False)),
                "three phases": list(zip((1.0, -0.25, -0.75), phases, strict=True)),
                "two phases with states of the suite's": list(zip((1.0, -1.0), made, strict=True)),
            }.items():
                wanted = _statistic(rig, terms)
                for name, value in rig.contrast(terms).items():
                    apart = distance(value, wanted[name], 1e-6 * float(joined(wanted).norm()))
                    rig.require_small(f"the error of the contrast of {what} for {name!r}", apart, bench.allowed(1e-6))


@law("L2", cases)
def weights_must_cancel(bench: Bench) -> None:
    """A contrast whose weights do not sum to 0 is an error: it would be no difference of phases."""
    for case in bench.plain():
        with bench.open(case) as rig:
            free = rig.free()
            nudged = rig.nudged(rig.beta, free)
            with rig.refuses("a contrast with the weights 1 and -0.5"):
                rig.contrast([(1.0, nudged), (-0.5, free)])
            with rig.refuses("a contrast of one phase"):
                rig.contrast([(1.0, nudged)])


@law("L2", cases)
def phases_may_come_in_any_order(bench: Bench) -> None:
    """The contrast asks for no order of its phases: with +beta and -beta swapped it is the same."""
    for case in bench.plain():
        with bench.open(case) as rig:
            free = rig.free()
            second = rig.nudged(-rig.beta if bench.capabilities.negative_nudging else rig.beta / 2, free)
            terms = [(2.0, rig.nudged(rig.beta, free)), (-2.0, second)]
            one, other = rig.contrast(terms), rig.contrast(terms[::-1])
            rig.require_small("the change with the order of phases", worst(other, one), bench.allowed(1e-9))


@law("L2", cases)
def synapses_are_local(bench: Bench) -> None:
    """A synapse's entry depends on nothing but the states of the two populations that it joins, and of its units."""
    for case in (*bench.plain(), *bench.chosen(layout="deep")):
        with bench.open(case) as rig:
            free = rig.free()
            ends = [rig.states(rig.nudged(rig.beta, free)), rig.states(free)]
            other = [rig.anywhere(1), rig.anywhere(2)]
            before = _contrast_at(rig, free, ends)
            for level, coupling in enumerate(rig.network.couplings):
                near = (level - 1, level)
                apart = [
                    [s if k in near else o for k, (s, o) in enumerate(zip(*pair, strict=True))]
                    for pair in zip(ends, other, strict=True)
                ]
                after = _contrast_at(rig, free, apart)
                for name in coupling.parameters:
                    rig.require_small(
                        f"the change of the contrast of {name!r} with populations that it does not join",
                        distance(after[name], before[name], 1e-9 * float(joined(before).norm())),
                        1e-9 if bench.capabilities.deterministic else bench.capabilities.tolerance,
                    )
                if oracle.bounded(rig.network) and isinstance(coupling.weighted, Dense):
                    for pair in apart:
                        pair[level] = pair[level].clone()
                        pair[level][:, 0] = other[0][level][:, 0]
                    rows = _contrast_at(rig, free, apart)[coupling.weighted.weight][1:]
                    rig.require_small(
                        f"the change of the contrast of {coupling.weighted.weight!r} with a unit that it does not join",
                        distance(rows, before[coupling.weighted.weight][1:]),
                        1e-9 if bench.capabilities.deterministic else bench.capabilities.tolerance,
                    )


@law("L2", cases)
def no_error_no_update(bench: Bench) -> None:
    """Where the outputs have reached the target, nothing is learnt."""
    for case in (c for c in bench.cases if c.cost == "squared_error"):
        with bench.open(case) as rig:
            free = rig.free()
            other = (
                rig.nudged(-rig.beta, free, target=rig.mean(free.outputs))
                if bench.capabilities.negative_nudging
                else free
            )
            reached = [(1.0, rig.nudged(rig.beta, free, target=rig.mean(free.outputs))), (-1.0, other)]
            usual = [(1.0, rig.nudged(rig.beta, free)), (-1.0, free)]
            size = float(joined(rig.contrast(reached)).norm()) / float(joined(rig.contrast(usual)).norm())
            rig.require_small("the update without an error, over the usual one,", size, bench.allowed(1e-6))


@law("L2", cases)
def gradients_are_batch_means(bench: Bench) -> None:
    """The gradient of a batch is the mean of its samples' gradients, however the batch is cut."""
    for case in bench.cases:
        with bench.open(case, settled=False) as rig:
            whole = joined(_part(rig, torch.arange(len(rig.x))))
            singles = [joined(_part(rig, torch.tensor([i]))) for i in range(len(rig.x))]
            twice = joined(_part(rig, torch.arange(len(rig.x)).repeat(2)))
            for what, value in {
                "the mean of its samples'": torch.stack(singles).mean(0),
                "that with each sample twice": twice,
            }.items():
                rig.require_small(
                    f"the difference of a batch's gradient and {what}", distance(value, whole), bench.allowed()
                )


@law("L2", cases, resident)
def resident_learning_lowers_the_cost(bench: Bench) -> None:
    """`learn` changes the substrate's own parameters so that the cost of its samples falls."""
    for case in bench.plain():
        with bench.open(case) as rig:
            before, held = rig.cost(rig.free()), joined(rig.parameters())
            for _ in range(20):
                rig.substrate.learn(rig.feed(rig.x), rig.feed(rig.target), rate=0.1, beta=rig.beta)
            rig.require(distance(joined(rig.parameters()), held) > 0, "20 calls of learn changed no parameter")
            after = rig.cost(rig.free())
            rig.require(after < 0.9 * before, f"20 calls of learn took the cost from {before:.4g} to {after:.4g}")


def _statistic(rig: Rig, terms: list[tuple[float, Equilibrium]]) -> dict[str, Tensor]:
    held = rig.parameters()
    parts = [(w, oracle.statistic(rig.network, rig.x, rig.states(e), held)) for w, e in terms]
    return {name: torch.stack([-w * part[name] for w, part in parts]).sum(0) for name in held}


def _contrast_at(rig: Rig, like: Equilibrium, ends: list[list[Tensor]]) -> Mapping[str, Tensor]:
    rig.substrate.reseed(0)
    return rig.contrast([(w, rig.altered(like, states)) for w, states in zip((1.0, -1.0), ends, strict=True)])


def _part(rig: Rig, rows: Tensor) -> dict[str, Tensor]:
    free = rig.free(rig.x[rows])
    return rig.contrast([(1.0, rig.nudged(rig.beta, free, target=rig.target[rows])), (-1.0, free)])
