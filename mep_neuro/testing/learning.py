"""L2, learning: the contrast of phases is the energy's own statistic, local, and its gradient the exact one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from mep_neuro.couplings import Dense
from mep_neuro.nudging import Centered, Holomorphic, Nudging, OneSided
from mep_neuro.testing import oracle
from mep_neuro.testing.bench import Bench, distance, joined, worst
from mep_neuro.testing.law import cases, complex_nudging, fine, forces, law, negative, option, rate, resident
from mep_neuro.testing.networks import Case
from mep_neuro.testing.rig import Rig
from mep_neuro.types import Equilibrium

BETAS = (0.05, 0.025, 0.0125)
STEP = 1e-4
"""Of finite differences, along a direction of length 1."""


@law("L2", cases)
def contrast_is_the_energys_own(bench: Bench) -> None:
    """`contrast` is sum_k weight_k (-dE/dtheta)(s_k), the batch mean, at the states that the phases hold."""
    for case in bench.cases:
        with bench.open(case) as rig:
            free = rig.free()
            phases = [rig.nudged(rig.beta, free), rig.nudged(-rig.beta if _signed(bench) else rig.beta / 2, free), free]
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


@law("L2", cases, fine)
def contrast_is_exact_at_any_beta(bench: Bench) -> None:
    """The contrast is the exact gradient of [F*(b) - F*(-b)] / 2b, F* the least E + beta C: by finite differences."""
    for case in bench.cases:
        with bench.open(case) as rig:
            held = rig.parameters()
            estimate = rig.estimate(_sided(bench), rig.beta)
            for number, name in enumerate(estimate):
                rng = np.random.default_rng(number)
                direction = torch.from_numpy(rng.standard_normal(tuple(held[name].shape)))
                direction = direction / direction.norm()
                ends = []
                for sign in (1, -1):
                    rig.program({**held, name: held[name] + sign * STEP * direction})
                    ends.append(_loss(rig, _signed(bench)))
                difference = (ends[0] - ends[1]) / (2 * STEP)
                along = float((estimate[name] * direction).sum())
                error = abs(along - difference) / max(float(estimate[name].norm()), 1e-12)
                rig.require_small(
                    f"the error of the gradient of {name!r} along a direction ({along:.6g}, finite differences "
                    f"{difference:.6g}), over its length,",
                    error,
                    bench.allowed(1e-4),
                )
            rig.program(held)


@law("L2", cases, fine)
def one_sided_error_is_of_order_one(bench: Bench) -> None:
    """Against one free phase, the gradient's error falls in proportion to beta: slope 0.85 to 1.15."""
    for case in _smooth(bench):
        _slope(bench, case, OneSided(), BETAS, 0.85, 1.15)


@law("L2", cases, fine, negative)
def centered_error_is_of_order_two(bench: Bench) -> None:
    """Between +beta and -beta, the gradient's error falls with beta squared: slope 1.9 to 2.1."""
    for case in _smooth(bench):
        _slope(bench, case, Centered(), BETAS, 1.9, 2.1)


@law("L2", cases, fine, complex_nudging)
def holomorphic_error_is_of_order_four(bench: Bench) -> None:
    """With four nudges on a circle, the gradient's error falls with the fourth power of beta: slope 3.6 to 4.4."""
    for case in bench.cases:
        if case.energy == "hopfield" and case.family == "Logistic":
            _slope(bench, case, Holomorphic(4), (0.4, 0.2, 0.1), 3.6, 4.4)


@law("L2", cases)
def gradient_is_close_to_the_exact_one(bench: Bench) -> None:
    """The gradient at a small nudge is that of the cost at free rest: by implicit functions, or plain backprop."""
    small = not fine(bench)
    for case in bench.cases:
        with bench.open(case) as rig:
            estimate = rig.estimate(_sided(bench), 0.05 if small else rig.beta)
            error = worst(estimate, rig.exact())
            bias = (0.02 if _signed(bench) else 0.1) if small else 0.3
            rig.require_small("the relative error of the gradient", error, bias + bench.capabilities.tolerance)


@law("L2", cases, fine, forces)
def forces_have_their_gradient(bench: Bench) -> None:
    """Nudged by the force -dC/ds, the gradient is that of the cost C."""
    for case in bench.cases:
        with bench.open(case) as rig:
            free = rig.free()
            out = rig.mean(free.outputs).requires_grad_()
            (slope,) = torch.autograd.grad(rig.pull(1.0)(out).sum(), out)
            beta = 0.02
            ends = (rig.forced(beta, free, -slope), rig.forced(-beta, free, -slope) if _signed(bench) else free)
            scale = 1 / (2 * beta) if _signed(bench) else 1 / beta
            estimate = rig.contrast([(-scale, ends[0]), (scale, ends[1])])
            error = worst(estimate, rig.exact())
            rig.require_small("the relative error of the gradient by a force", error, bench.allowed(0.02 if _signed(bench) else 0.1))


@law("L2", cases)
def synapses_are_local(bench: Bench) -> None:
    """A synapse's entry depends on nothing but the states of the two populations that it joins, and of its two units."""
    for case in (*bench.plain(), *bench.chosen(layout="deep")):
        with bench.open(case) as rig:
            free = rig.free()
            ends = [rig.states(rig.nudged(rig.beta, free)), rig.states(free)]
            other = [rig.anywhere(1), rig.anywhere(2)]
            before = _contrast_at(rig, free, ends)
            for level, coupling in enumerate(rig.network.couplings):
                near = (level - 1, level)
                apart = [[s if k in near else o for k, (s, o) in enumerate(zip(*pair, strict=True))] for pair in zip(ends, other, strict=True)]
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
            other = rig.nudged(-rig.beta, free, target=rig.mean(free.outputs)) if _signed(bench) else free
            reached = [(1.0, rig.nudged(rig.beta, free, target=rig.mean(free.outputs))), (-1.0, other)]
            usual = [(1.0, rig.nudged(rig.beta, free)), (-1.0, free)]
            size = float(joined(rig.contrast(reached)).norm()) / float(joined(rig.contrast(usual)).norm())
            rig.require_small("the update without an error, over the usual one,", size, bench.allowed())


@law("L2", cases)
def phases_may_come_in_any_order(bench: Bench) -> None:
    """The contrast asks for no order of its phases: with +beta and -beta swapped it is the same."""
    for case in bench.plain():
        with bench.open(case) as rig:
            free = rig.free()
            second = rig.nudged(-rig.beta if _signed(bench) else rig.beta / 2, free)
            terms = [(2.0, rig.nudged(rig.beta, free)), (-2.0, second)]
            one, other = rig.contrast(terms), rig.contrast(terms[::-1])
            rig.require_small("the change with the order of phases", worst(other, one), bench.allowed(1e-9))


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
def gradients_are_batch_means(bench: Bench) -> None:
    """The gradient of a batch is the mean of its samples' gradients, however the batch is cut."""
    for case in bench.cases:
        with bench.open(case, settled=False) as rig:
            whole = joined(_part(rig, torch.arange(len(rig.x))))
            singles = [joined(_part(rig, torch.tensor([i]))) for i in range(len(rig.x))]
            twice = joined(_part(rig, torch.arange(len(rig.x)).repeat(2)))
            for what, value in {"the mean of its samples'": torch.stack(singles).mean(0), "that with each sample twice": twice}.items():
                rig.require_small(f"the difference of a batch's gradient and {what}", distance(value, whole), bench.allowed())


@law("L2", cases, fine, rate, option("tolerance"))
def stopping_is_relative_to_the_nudge(bench: Bench) -> None:
    """However small the nudge, a phase stops when changes are small beside it: a tolerance is relative to beta |dC/ds|."""
    for case in (*bench.plain(), *bench.chosen(layout="deep")):
        for beta in (1e-2, 1e-3, 1e-4):
            with bench.open(case) as rig:
                full = rig.estimate(_sided(bench), beta)
            with bench.open(case, tolerance=1e-4) as rig:
                error = worst(rig.estimate(_sided(bench), beta), full)
                rig.require_small(
                    f"the error of the gradient at beta = {beta:g} that stopping at tolerance = 1e-4 makes", error, 0.03
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


def _signed(bench: Bench) -> bool:
    return bench.capabilities.negative_nudging


def _sided(bench: Bench) -> Nudging:
    return Centered() if _signed(bench) else OneSided()


def _smooth(bench: Bench) -> tuple[Case, ...]:
    """Cases for orders in beta: dense of each family and convolutional, and each cost."""
    return tuple(c for c in bench.cases if not c.bounded or c.family == "Logistic")


def _slope(bench: Bench, case: Case, nudging: Nudging, betas: tuple[float, ...], low: float, high: float) -> None:
    """Raise unless the error's slope over beta, in logarithms, lies between low and high."""
    with bench.open(case) as rig:
        exact = rig.exact()
        errors = []
        for beta in betas:
            errors.append(worst(rig.estimate(nudging, beta), exact))
        shown = ", ".join(f"{e:.3g} at beta = {b:g}" for b, e in zip(betas, errors, strict=True))
        slope = float(np.polyfit(np.log(betas), np.log(np.maximum(errors, 1e-300)), 1)[0])
        rig.require(
            low <= slope <= high,
            f"the relative error of the gradient is {shown}: slope {slope:.3f}, allowed is {low:g} to {high:g}",
        )


def _loss(rig: Rig, signed: bool) -> float:
    """[F*(b) - F*(-b)] / 2b, or [F*(b) - F*(0)] / b: the mean over the batch, at the substrate's own rests."""
    free, held = rig.free(), rig.parameters()
    ends = [(rig.beta, rig.nudged(rig.beta, free))]
    ends.append((-rig.beta, rig.nudged(-rig.beta, free)) if signed else (0.0, free))
    least = [float(oracle.total(rig.network, rig.x, rig.states(e), held, rig.pull(b)).mean()) for b, e in ends]
    return (least[0] - least[1]) / (ends[0][0] - ends[1][0])


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
