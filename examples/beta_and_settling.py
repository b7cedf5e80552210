"""How good is a gradient by equilibrium propagation? Its error over iterations and over beta, and what settles.

Tables 1 to 3 have one hidden population of ReLUs. Its loop, from the hidden units to the outputs and back, has the gain
|W2|^2; a nudge of beta at linear outputs makes that |W2|^2 / (1 + beta), so a negative one makes it larger.
docs/training.md reads the tables.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

import mep_neuro as mep
from mep_neuro.data import load
from mep_neuro.errors import SettlingError
from mep_neuro.testing import oracle

REST = {"max_steps": 5000, "tolerance": 1e-12}


def network(hidden: tuple[int, ...] = (128,), rho: nn.Module | None = None, gain: float = 0.0) -> mep.EnergyNetwork:
    """64-hidden-10 in float64 with PyTorch's initial weights; the last ones scaled to a gain where one is given."""
    torch.manual_seed(0)
    layers = list[nn.Module]()
    for below, width in zip((64, *hidden), hidden, strict=False):
        layers += [nn.Linear(below, width), copy.copy(rho or nn.ReLU())]
    last = nn.Linear(hidden[-1], 10)
    if gain:
        with torch.no_grad():
            last.weight.mul_(gain**0.5 / torch.linalg.matrix_norm(last.weight, 2))
    return mep.EnergyNetwork.from_module(nn.Sequential(*layers, last).double())


def estimate(x: Tensor, y: Tensor, *, beta: float = 0.5, nudging: str = "centered", **options: object) -> Tensor:
    """The gradient by equilibrium propagation in the precision of x, all parameters in one vector."""
    net = network()
    net.module.to(x.dtype)
    with mep.backend("torch", net, **options) as substrate:
        gradient = mep.EquilibriumPropagation(substrate, beta=beta, nudging=nudging).estimate(x, y)
    return torch.cat([gradient[name].flatten() for name in sorted(gradient)])


def exact(x: Tensor, y: Tensor) -> Tensor:
    """The gradient of the cost at the free equilibrium, by implicit differentiation."""
    net = network()
    with mep.backend("torch", net, **REST) as substrate:
        states = substrate.settle(x).states
    held = {name: p.detach() for name, p in net.parameters.items()}
    gradient = oracle.gradient(net, x, states, held, "squared_error", nn.functional.one_hot(y, 10).double())
    return torch.cat([gradient[name].flatten() for name in sorted(gradient)])


def unsettled(net: mep.EnergyNetwork, x: Tensor, y: Tensor, max_steps: int) -> str:
    """How many of the samples have not come to rest in the free phase, under +beta and under -beta."""
    with mep.backend("torch", net, max_steps=max_steps) as substrate:
        try:
            phases = mep.EquilibriumPropagation(substrate, beta=0.5).relax(x, y)
        except SettlingError:
            return "   SettlingError"
    return "".join(f"{int((~e.converged).sum()):>5}" for e in (phases.free, *phases.nudged))


def main() -> None:
    """Print the tables."""
    data = load("digits")
    x, y = data.x_train[:64].double(), data.y_train[:64]

    print("1. Relative error against the same estimate fully settled; beta = 0.5, centered")
    print("   max_steps   even_odd  synchronous  anderson  euler")
    rest = estimate(x, y, **REST)
    for steps in (5, 10, 20, 40):
        errors = [
            error(estimate(x, y, solver=solver, max_steps=steps), rest)
            for solver in ("even_odd", "synchronous", "anderson", "euler")
        ]
        print(f"   {steps:<10}  {errors[0]:.1e}   {errors[1]:.1e}      {errors[2]:.1e}   {errors[3]:.1e}")

    print("2. Relative error (and cosine) against the exact gradient, all phases fully settled")
    print("   beta    one_sided         centered          rounding of float32 in centered")
    truth = exact(x, y)
    for beta in (0.5, 0.2, 0.1, 0.05, 0.02):
        row = [estimate(x, y, beta=beta, nudging=nudging, **REST) for nudging in ("one_sided", "centered")]
        shown = [f"{error(g, truth):.4f} ({torch.cosine_similarity(g, truth, 0):.5f})" for g in row]
        single = estimate(x.float(), y, beta=beta, max_steps=60)
        print(f"   {beta:<6}  {'  '.join(shown)}  {error(single, row[1]):.0e}")

    print("3. Samples of 64 not settled: free phase, under +beta, under -beta; beta = 0.5, W2 scaled")
    print("   |W2|^2    20 iterations   2000 iterations")
    for gain in (0.3, 0.45, 0.6, 0.95, 1.2):
        print(f"   {gain:<6} {''.join(unsettled(network(gain=gain), x, y, n).ljust(16) for n in (20, 2000))}".rstrip())

    print("4. The same for 64-256-256-256-10, PyTorch's initial weights")
    print("   activation      20 iterations   100 iterations")
    for rho in (nn.ReLU(), nn.Tanh(), nn.Hardtanh(0.0, 1.0), nn.Hardsigmoid()):
        row = "".join(unsettled(network((256, 256, 256), rho), x, y, n).ljust(16) for n in (20, 100))
        print(f"   {type(rho).__name__:<12} {row}".rstrip())


def error(value: Tensor, truth: Tensor) -> float:
    """|value - truth| / |truth|."""
    return float((value - truth).norm() / truth.norm())


if __name__ == "__main__":
    main()
