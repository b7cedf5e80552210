"""L2, gradients: what a contrast estimates, by finite differences, implicit functions and backprop; orders in beta."""

from __future__ import annotations

import numpy as np
import torch

from mep_neuro.nudging import Centered, Holomorphic, Nudging, OneSided
from mep_neuro.testing import oracle
from mep_neuro.testing.bench import Bench, distance, joined, worst
from mep_neuro.testing.law import cases, complex_nudging, exact, fine_weights, forces, law, negative, option, rate
from mep_neuro.testing.networks import Case
from mep_neuro.testing.rig import Rig

BETAS = (0.05, 0.025, 0.0125)
STEP = 1e-4
"""Of finite differences, along a direction of length 1."""


@law("L2", cases, exact, fine_weights)
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
                    ends.append(_loss(rig, bench.capabilities.negative_nudging))
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


@law("L2", cases, exact, fine_weights)
def one_sided_error_is_of_order_one(bench: Bench) -> None:
    """Against one free phase, the gradient's error falls in proportion to beta: slope 0.85 to 1.15."""
    for case in _smooth(bench):
        _slope(bench, case, OneSided(), BETAS, 0.85, 1.15)


@law("L2", cases, exact, fine_weights, negative)
def centered_error_is_of_order_two(bench: Bench) -> None:
    """Between +beta and -beta, the gradient's error falls with beta squared: slope 1.9 to 2.1."""
    for case in _smooth(bench):
        _slope(bench, case, Centered(), BETAS, 1.9, 2.1)


@law("L2", cases, exact, fine_weights, complex_nudging)
def holomorphic_error_is_of_order_four(bench: Bench) -> None:
    """With four nudges on a circle, the gradient's error falls with the fourth power of beta: slope 3.6 to 4.4."""
    for case in bench.cases:
        if case.energy == "hopfield" and case.family == "Logistic":
            _slope(bench, case, Holomorphic(4), (0.4, 0.2, 0.1), 3.6, 4.4)


@law("L2", cases)
def gradient_is_close_to_the_exact_one(bench: Bench) -> None:
    """The gradient at a small nudge is that of the cost at free rest: by implicit functions, or plain backprop."""
    coarse = bool(exact(bench) or fine_weights(bench))  # the nudge must stand out of the errors, and so has a bias
    for case in bench.cases:
        with bench.open(case) as rig:
            estimate, wanted = rig.estimate(_sided(bench), rig.beta / 2 if coarse else 0.05), rig.exact()
            if coarse:
                bias, error = 0.4, distance(joined(estimate), joined({n: wanted[n] for n in estimate}))
            else:
                bias, error = 0.05 if bench.capabilities.negative_nudging else 0.3, worst(estimate, wanted)
            rig.require_small("the relative error of the gradient", error, bias + bench.capabilities.tolerance)


@law("L2", cases, exact, forces)
def forces_have_their_gradient(bench: Bench) -> None:
    """Nudged by the force -dC/ds, the gradient is that of the cost C."""
    for case in bench.cases:
        with bench.open(case) as rig:
            free = rig.free()
            out = rig.mean(free.outputs).requires_grad_()
            (slope,) = torch.autograd.grad(rig.pull(1.0)(out).sum(), out)
            beta = 0.02
            ends = (
                rig.forced(beta, free, -slope),
                rig.forced(-beta, free, -slope) if bench.capabilities.negative_nudging else free,
            )
            scale = 1 / (2 * beta) if bench.capabilities.negative_nudging else 1 / beta
            estimate = rig.contrast([(-scale, ends[0]), (scale, ends[1])])
            error = worst(estimate, rig.exact())
            rig.require_small(
                "the relative error of the gradient by a force",
                error,
                bench.allowed(0.02 if bench.capabilities.negative_nudging else 0.1),
            )


@law("L2", cases, exact, rate, negative, option("tolerance"))
def stopping_is_relative_to_the_nudge(bench: Bench) -> None:
    """However small the nudge, a phase stops when changes are small beside it: relative to beta |dC/ds|."""
    for case in (*bench.plain(), *bench.chosen(layout="deep")):
        for beta in (1e-2, 1e-3, 1e-4):
            with bench.open(case) as rig:
                full = rig.estimate(Centered(), beta)
            with bench.open(case, tolerance=1e-4) as rig:
                error = worst(rig.estimate(Centered(), beta), full)
                rig.require_small(
                    f"the error of the gradient at beta = {beta:g} that stopping at tolerance = 1e-4 makes", error, 0.03
                )


def _sided(bench: Bench) -> Nudging:
    return Centered() if bench.capabilities.negative_nudging else OneSided()


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
