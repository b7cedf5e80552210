"""network.contraction against explicit Jacobians and the course of settling; and what docs/training.md says of when
settling is guaranteed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mep_neuro as mep
from mep_neuro.activations import respond
from mep_neuro.errors import InputError, SettlingError
from mep_neuro.types import Nudge

HIDDEN: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "hardsigmoid": nn.Hardsigmoid,
    "hardtanh": nn.Hardtanh,
}


def dense(
    *widths: int, hidden: Callable[[], nn.Module] = nn.ReLU, gain: float = 0.6, seed: int = 0, last: bool = False
) -> mep.EnergyNetwork:
    """A chain in float64 whose couplings after the first have the norm `gain`. last: an activation on the outputs."""
    torch.manual_seed(seed)
    layers = list[nn.Module]()
    for below, width in itertools.pairwise(widths):
        layers += [nn.Linear(below, width), hidden()]
    net = mep.EnergyNetwork.from_module(nn.Sequential(*(layers if last else layers[:-1])).double())
    scale(net, gain)
    return net


def scale(net: mep.EnergyNetwork, gain: float) -> None:
    for coupling in net.couplings[1:]:
        if coupling.weighted is not None:
            p = net.parameters[coupling.weighted.weight]
            with torch.no_grad():
                p.mul_(gain / torch.linalg.matrix_norm(p.flatten(1), 2))


def convolutional() -> mep.EnergyNetwork:
    torch.manual_seed(0)
    module = nn.Sequential(
        *(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)),
        *(nn.Conv2d(2, 3, 2, stride=2, bias=False), nn.Dropout(0.5), nn.Tanh()),
        *(nn.Flatten(), nn.Linear(12, 3)),
    )
    net = mep.EnergyNetwork.from_module(module.double(), input_shape=(1, 8, 8))
    scale(net, 0.8)
    return net


def batch(net: mep.EnergyNetwork, samples: int = 4, seed: int = 1) -> Tensor:
    shape = (samples, *net.input_shape)
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def phi(net: mep.EnergyNetwork, x: Tensor, states: Sequence[Tensor]) -> Tensor:
    """sum_l <s_l, f_l(s_{l-1}) + b_l>, by the module's layers in evaluation mode: drive_l is its slope in s_l."""
    total, below, above = x.new_zeros(()), x, iter(states)
    s = x
    for layer in net.module:
        if isinstance(layer, nn.ReLU | nn.Tanh | nn.Sigmoid | nn.Hardsigmoid | nn.Hardtanh):
            below = next(above)
            total, s = total + (below * s).sum(), below
        else:
            s = s if isinstance(layer, nn.Dropout) else layer(s)
    last = next(above, None)
    return total if last is None else total + (last * s).sum()


def sweep(net: mep.EnergyNetwork, x: Tensor, flat: Tensor, beta: float = 0.0, target: Tensor | None = None) -> Tensor:
    """One even/odd sweep of a sample's states, all in one vector: autograd through the drives and through rho."""
    shapes = [p.shape for p in net.populations]
    states = [s.view(1, *shape) for s, shape in zip(flat.split([p.size for p in net.populations]), shapes, strict=True)]
    for parity in (0, 1):
        for level in range(parity, len(states), 2):
            own = states[level].detach().requires_grad_()  # Phi is linear in it: the drive comes from the others alone
            others = [*states[:level], own, *states[level + 1 :]]
            (drive,) = torch.autograd.grad(phi(net, x, others), own, create_graph=True)
            activation, outputs = net.populations[level].activation, level == len(states) - 1
            if outputs and beta and target is not None:  # linear outputs
                states[level] = (drive + beta * target) / (1 + beta)
            else:
                states[level] = respond(activation, drive)
    return torch.cat([s.flatten() for s in states])


def rest(net: mep.EnergyNetwork, x: Tensor) -> Tensor:
    flat = torch.zeros(sum(p.size for p in net.populations), dtype=torch.float64, requires_grad=True)
    for _ in range(500):
        new = sweep(net, x, flat).detach().requires_grad_()
        if bool(((new - flat).abs() <= 1e-14).all()):
            break
        flat = new
    return flat


def radius(net: mep.EnergyNetwork, x: Tensor, beta: float = 0.0) -> float:
    """The spectral radius of the sweep's explicit Jacobian at a sample's free equilibrium."""
    found = rest(net, x)
    target = None
    if beta:  # the target is where the outputs are, so that the nudge moves nothing
        target = found[-net.outputs.size :].detach().view(1, -1)
    jacobian = torch.autograd.functional.jacobian(lambda s: sweep(net, x, s, beta, target), found)
    assert isinstance(jacobian, Tensor)
    return float(torch.linalg.eigvals(jacobian).abs().max())


NETWORKS = {
    **{name: lambda a=act: dense(4, 7, 6, 3, hidden=a, gain=0.7) for name, act in HIDDEN.items()},
    "one hidden": lambda: dense(4, 7, 3, gain=0.9),
    "four hidden": lambda: dense(4, 6, 5, 6, 5, 3, hidden=nn.Tanh, gain=0.6),
    "bounded outputs": lambda: dense(4, 7, 6, 3, hidden=nn.Hardsigmoid, gain=3.0, last=True),
    "convolutions": convolutional,
}


@pytest.mark.parametrize(
    ("name", "beta"),
    [*((name, 0.0) for name in NETWORKS), ("relu", 0.5), ("relu", -0.4), ("convolutions", 0.5), ("four hidden", -0.4)],
)
def test_it_is_the_spectral_radius_of_the_sweeps_jacobian(name: str, beta: float) -> None:
    net = NETWORKS[name]()
    x = batch(net, 3)
    alone = [net.contraction(s, beta=beta) for s in x.split(1)]
    for rate, s in zip(alone, x.split(1), strict=True):
        assert rate == pytest.approx(radius(net, s, beta), rel=1e-6)
    assert max(alone) > 1e-4
    assert net.contraction(x, beta=beta) == pytest.approx(max(alone), rel=1e-9)  # the largest of a batch


def test_a_sweep_never_shrinks_errors_by_less_in_the_energys_own_metric() -> None:
    """From the second sweep on (the first brings errors of the start to the populations set last): |e| by the rate."""
    net = dense(4, 7, 6, 3, hidden=nn.Tanh, gain=0.9)
    x = batch(net, 1)
    found, rate = rest(net, x), net.contraction(x)
    sizes = [p.size for p in net.populations]
    s = found.detach().split(sizes)[1]
    slope = 1 - s.square()  # rho' of tanh; population 2 is the one set last
    tiny = 1e-6 * torch.randn(found.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    state, lengths = (found + tiny).detach().requires_grad_(), list[float]()
    for _ in range(6):
        state = sweep(net, x, state).detach().requires_grad_()
        lengths.append(float(((state - found).detach().split(sizes)[1] / slope.sqrt()).norm()))
    shrinks = [after / before for before, after in itertools.pairwise(lengths)]
    assert max(shrinks) <= rate * (1 + 1e-4)
    assert shrinks[-1] > 0.9 * rate


@pytest.mark.parametrize("beta", [0.0, 0.5, -0.4])
@pytest.mark.parametrize("hidden", [nn.ReLU, nn.Tanh])
def test_the_residual_on_a_substrate_falls_by_it_from_sweep_to_sweep(
    hidden: Callable[[], nn.Module], beta: float
) -> None:
    net = dense(4, 9, 3, hidden=hidden, gain=0.85)
    x = batch(net, 1)
    with mep.backend("reference", net, max_steps=3000, tolerance=1e-15) as substrate:
        substrate.program({n: p.detach().numpy() for n, p in net.parameters.items()})
        free = substrate.settle(x.numpy())
    residuals = []
    for steps in (12, 13):
        with mep.backend("reference", net, max_steps=steps) as substrate:
            substrate.program({n: p.detach().numpy() for n, p in net.parameters.items()})
            if beta:  # a target beside the outputs: the slopes at rest stay those of the free equilibrium
                nudge = Nudge(beta, free.outputs + 1e-6)
                found = substrate.settle(x.numpy(), nudge=nudge, start=free)
            else:
                found = substrate.settle(x.numpy())
            residuals.append(float(found.residual[0]))
    assert residuals[1] / residuals[0] == pytest.approx(net.contraction(x, beta=beta), rel=0.01)


def test_single_precision_and_leaving_the_network_as_it_is() -> None:
    net, x = dense(4, 30, 20, 5, gain=0.7), batch(dense(4, 3))
    double = net.contraction(x)
    net.module.float()
    versions = [p._version for p in net.parameters.values()]
    assert net.contraction(x) == pytest.approx(double, rel=1e-4)  # x goes to the parameters' type
    assert [p._version for p in net.parameters.values()] == versions
    assert all(p.grad is None for p in net.parameters.values())


def test_a_unit_at_the_corner_of_its_relu_counts_as_on() -> None:
    net = dense(4, 6, 3, gain=0.8)
    with torch.no_grad():
        for name, p in net.parameters.items():
            p.mul_(0.0 if name != "2.weight" else 1.0)  # nothing drives anything
    assert net.contraction(torch.ones(1, 4)) == pytest.approx(0.64)


def test_without_a_loop_there_is_nothing_to_shrink() -> None:
    assert dense(4, 3).contraction(torch.ones(2, 4)) == 0.0
    net = dense(4, 6, 3)
    with torch.no_grad():
        net.parameters["0.bias"].fill_(-100.0)  # all ReLUs off
    assert net.contraction(torch.ones(2, 4)) == 0.0


def test_a_loop_that_runs_away_has_a_rate_above_one() -> None:
    net = dense(4, 6, 6, 3, gain=2.0)
    with torch.no_grad():
        net.parameters["0.bias"].fill_(3.0)
    rate = net.contraction(batch(net), iterations=2000)
    assert 1 < rate < 16
    assert rate == pytest.approx(net.contraction(batch(net), iterations=100), rel=0.05)


def test_units_that_clip_do_not_count() -> None:
    net = dense(4, 6, 3, hidden=nn.Hardtanh, gain=0.9)
    before = net.contraction(torch.zeros(1, 4))
    with torch.no_grad():
        net.parameters["0.bias"][:5] = 100.0
    w = net.parameters["2.weight"].detach()[:, 5]
    assert net.contraction(torch.zeros(1, 4)) == pytest.approx(float(w.square().sum()), rel=1e-9)
    assert net.contraction(torch.zeros(1, 4)) < before


def test_what_cannot_be_asked() -> None:
    module = dense(4, 6, 3).module
    error = mep.EnergyNetwork.from_module(module, energy="prediction_error")
    with pytest.raises(InputError, match=r"'prediction_error'.*forward pass"):
        error.contraction(torch.ones(1, 4))
    net = mep.EnergyNetwork.from_module(module)
    with pytest.raises(InputError, match=r"\(batch, 4\)"):
        net.contraction(torch.ones(1, 5))
    with pytest.raises(InputError, match="empty"):
        net.contraction(torch.ones(0, 4))
    with pytest.raises(InputError, match="iterations is 0"):
        net.contraction(torch.ones(1, 4), iterations=0)
    with pytest.raises(InputError, match="beta is -1"):
        net.contraction(torch.ones(1, 4), beta=-1.0)


# What docs/training.md says under "When settling is guaranteed".


def loop(norms: Sequence[float], beta: float = 0.0) -> float:
    """The largest eigenvalue of the matrix with |f_2| .. |f_L| beside its diagonal, outputs of slope 1 / (1 + beta)."""
    beside = np.array(norms, dtype=float)
    if len(beside):
        beside[-1] /= math.sqrt(1 + beta)
    return float(np.linalg.eigvalsh(np.diag(beside, 1) + np.diag(beside, -1))[-1])


@pytest.mark.parametrize("populations", [2, 3, 4, 6])
def test_the_bound_on_the_rate_in_closed_form_and_that_it_is_reached(populations: int) -> None:
    gamma = 0.4
    closed = (2 * gamma * math.cos(math.pi / (populations + 1))) ** 2
    assert loop([gamma] * (populations - 1)) ** 2 == pytest.approx(closed)
    aligned = dense(1, *[1] * populations, hidden=nn.ReLU, gain=gamma)  # one unit a population, all on
    with torch.no_grad():
        for name, p in aligned.parameters.items():
            p.copy_(p.abs() if "weight" in name else torch.ones_like(p))
    assert aligned.contraction(torch.ones(1, 1)) == pytest.approx(closed, rel=1e-9)
    nudged = loop([gamma] * (populations - 1), beta=-0.5) ** 2
    assert aligned.contraction(torch.ones(1, 1), beta=-0.5) == pytest.approx(nudged, rel=1e-9)


@pytest.mark.parametrize("hidden", HIDDEN.values(), ids=HIDDEN)
@pytest.mark.parametrize("populations", [2, 3, 5])
def test_no_network_is_above_the_bound(hidden: Callable[[], nn.Module], populations: int) -> None:
    for seed in range(3):
        net = dense(6, *[12] * (populations - 1), 4, hidden=hidden, gain=0.6, seed=seed)
        for beta in (0.0, 0.5, -0.5):
            bound = loop([0.6] * (populations - 1), beta) ** 2
            assert net.contraction(batch(net, 20), beta=beta) <= bound * (1 + 1e-9)


def test_the_synchronous_map_contracts_where_two_neighbouring_norms_stay_below_one() -> None:
    """In the largest 2-norm of any population, for any two states, by L max_l (|f_l| + |f_{l+1}|) with L = 1."""
    gain, worst, steps = 0.48, 0.0, torch.Generator().manual_seed(0)
    net = dense(6, 12, 12, 12, 4, gain=gain)
    x = batch(net, 1)
    sizes = [p.size for p in net.populations]

    def synchronous(flat: Tensor) -> list[Tensor]:
        states = [s.view(1, -1).requires_grad_() for s in flat.split(sizes)]
        drives = torch.autograd.grad(phi(net, x, states), states)
        return [respond(p.activation, d) for p, d in zip(net.populations, drives, strict=True)]

    for _ in range(200):
        a, b = (torch.randn(sum(sizes), dtype=torch.float64, generator=steps) for _ in range(2))
        before = max(float(d.norm()) for d in (a - b).split(sizes))
        after = max(float((s - t).norm()) for s, t in zip(synchronous(a), synchronous(b), strict=True))
        worst = max(worst, after / before)
    assert 0.1 < worst <= 2 * gain


def energy(net: mep.EnergyNetwork, x: Tensor, flat: Tensor) -> float:
    shapes = [p.shape for p in net.populations]
    states = [s.view(1, *n) for s, n in zip(flat.split([p.size for p in net.populations]), shapes, strict=True)]
    with torch.no_grad():
        return float(net.energy(x, states))


@pytest.mark.parametrize("gain", [0.5, 1.5, 4.0])
def test_even_odd_sweeps_never_raise_the_energy_but_it_may_have_no_floor(gain: float) -> None:
    net = dense(4, 7, 6, 3, gain=gain)
    x, energies = batch(net, 1), list[float]()
    flat = torch.rand(16, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    for _ in range(40):
        energies.append(energy(net, x, flat.detach()))
        flat = sweep(net, x, flat).detach().requires_grad_()
    size = max(map(abs, energies))
    assert all(after <= before + 1e-12 * size for before, after in itertools.pairwise(energies))
    assert (energies[-1] < -1e6) == (gain > 1)


def test_one_hidden_population_is_bound_by_gamma_squared_and_has_one_rest() -> None:
    """ReLU, linear outputs: the guarantee of a bound of 0.95, from any start; and what there is above 1."""
    net = dense(4, 8, 3, gain=0.95)
    x = batch(net, 1)
    ends = []
    for seed in range(4):
        flat = 100 * torch.rand(11, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        flat.requires_grad_()
        for _ in range(400):
            flat = sweep(net, x, flat).detach().requires_grad_()
        ends.append(flat.detach())
    assert max(float((e - ends[0]).norm()) for e in ends) < 1e-6
    assert net.contraction(batch(net, 50)) <= 0.95**2
    ray = dense(1, 1, 1, gain=1.01)  # one unit each: along the loop's own direction E falls for ever
    with torch.no_grad():
        for name, p in ray.parameters.items():
            p.copy_(p.abs() if "weight" in name else torch.ones_like(p))
    points = [energy(ray, torch.ones(1, 1).double(), t * torch.ones(2).double()) for t in (1e2, 1e3, 1e4)]
    assert points[2] < points[1] < points[0] < 0


@pytest.mark.parametrize(("gain", "settles"), [(0.70, True), (0.95, False)])
def test_a_push_away_from_the_target_asks_for_more(gain: float, settles: bool) -> None:
    """Under -beta the rate of one hidden population is gamma^2 / (1 - beta): below 1 for gamma < sqrt(1 - beta)."""
    net = dense(4, 1, 1, gain=gain)
    with torch.no_grad():
        for name, p in net.parameters.items():
            p.copy_(p.abs() if "weight" in name else torch.ones_like(p))
    x = torch.ones(1, 4).double()
    assert net.contraction(x) == pytest.approx(gain**2)
    assert net.contraction(x, beta=-0.5) == pytest.approx(2 * gain**2)
    assert net.contraction(x, beta=0.5) == pytest.approx(gain**2 / 1.5)
    assert moved(net, x, 0.5, 400) < 1e-2
    assert (moved(net, x, -0.5, 400) < 1e-1) is settles


def moved(net: mep.EnergyNetwork, x: Tensor, beta: float, steps: int) -> float:
    """How far a nudge moves the outputs, from a free equilibrium that a target just below them pulls away from."""
    with mep.backend("torch", net, max_steps=(400, steps)) as substrate:
        free = substrate.settle(x)
        assert bool(free.converged.all())
        try:
            found = substrate.settle(x, nudge=Nudge(beta, free.outputs - 1e-3), start=free)
        except SettlingError:
            return math.inf
    return float((found.outputs - free.outputs).abs().max())


@pytest.mark.parametrize(
    ("populations", "free", "pushed"), [(2, 1.0, 0.707), (3, 0.707, 0.577), (4, 0.618, 0.541), (60, 0.5, 0.5)]
)
def test_the_table_of_gammas(populations: int, free: float, pushed: float) -> None:
    assert 1 / loop([1.0] * (populations - 1)) == pytest.approx(free, abs=1e-3)
    assert 1 / loop([1.0] * (populations - 1), beta=-0.5) == pytest.approx(pushed, abs=1e-3)


def test_cross_entropy_curves_half_as_much() -> None:
    """So that under -beta linear outputs have a slope of at most 1 / (1 - beta / 2)."""
    generator = torch.Generator().manual_seed(0)
    for outputs in (torch.zeros(2), *(5 * torch.randn(40, 7, generator=generator))):
        p = torch.softmax(outputs, 0)
        assert float(torch.linalg.eigvalsh(torch.diag(p) - torch.outer(p, p))[-1]) <= 0.5 + 1e-6


def test_the_sweeps_that_it_takes() -> None:
    assert [round(math.log(1e-3) / math.log(mu**2)) for mu in (0.95, 0.7)] == [67, 10]


@pytest.mark.parametrize("slopes", [(1.0, 0.25, 1.0), (1 / 6, 1 / 6, 1 / 6)])
def test_flatter_activations_count_by_the_roots_of_their_slopes(slopes: tuple[float, ...]) -> None:
    """M has sqrt(a_{l-1} a_l) |f_l|; reached by units in line at their steepest."""
    steep = {1.0: nn.Identity, 0.25: nn.Sigmoid, 1 / 6: nn.Hardsigmoid}
    layers = [layer for a in slopes for layer in (nn.Linear(1, 1), steep[a]())]
    net = mep.EnergyNetwork.from_module(nn.Sequential(*layers).double())
    for name, p in net.parameters.items():
        nn.init.constant_(p, 0.5 if "weight" in name else 0.0)
    entries = [math.sqrt(a * b) * 0.5 for a, b in itertools.pairwise(slopes)]
    assert net.contraction(torch.zeros(1, 1)) <= loop(entries) ** 2 * (1 + 1e-12)
    with torch.no_grad():  # the biases that put every drive at 0, where the slope is steepest
        rho0 = [float(respond(p.activation, torch.zeros(1))) for p in net.populations]
        names = [n for n in net.parameters if "bias" in n]
        for level, name in enumerate(names):
            below = 0.5 * rho0[level - 1] if level else 0.0
            above = 0.5 * rho0[level + 1] if level + 1 < len(names) else 0.0
            net.parameters[name].fill_(-below - above)
    assert net.contraction(torch.zeros(1, 1)) == pytest.approx(loop(entries) ** 2, rel=1e-9)


def test_average_pools_do_not_stretch_and_dropouts_do() -> None:
    for size, kernel, stride, padding, ceil in itertools.product((5, 8), (2, 3, 4), (1, 2, 3), (0, 1), (False, True)):
        pool = nn.AvgPool2d(kernel, stride, padding, ceil_mode=ceil)
        matrix = pool(torch.eye(size**2).view(-1, 1, size, size)).flatten(1)
        assert float(torch.linalg.matrix_norm(matrix, 2)) <= 1 + 1e-6
    pool = nn.AvgPool2d(2, 1, 1, count_include_pad=False)
    assert float(torch.linalg.matrix_norm(pool(torch.eye(25).view(-1, 1, 5, 5)).flatten(1), 2)) > 1.3
    torch.manual_seed(0)
    assert float(nn.Dropout(0.5)(torch.ones(100)).max()) == 2.0


@pytest.mark.parametrize(("squared", "settles"), [(0.8, True), (1.3, False)])
@pytest.mark.parametrize("populations", [2, 3])
def test_prediction_error_asks_for_less_but_not_for_nothing(populations: int, squared: float, settles: bool) -> None:
    """beta (1 + |f_L|^2 + |f_L|^2 |f_{L-1}|^2 + ...) on both sides of 1; units in line, all on."""
    chain = dense(1, *[1] * populations)
    with torch.no_grad():
        for name, p in chain.parameters.items():
            p.fill_(squared**0.5 if "weight" in name else 1.0)
    beta = 1 / populations
    net = mep.EnergyNetwork.from_module(chain.module, energy="prediction_error")
    x = torch.ones(1, 1, dtype=torch.float64)
    assert (beta * sum(squared**k for k in range(populations)) < 1) is settles
    assert moved(net, x, beta, 100) < 1e-2
    assert (moved(net, x, -beta, 100) < 1e-1) is settles
