"""The resistive energy against its circuit: Kirchhoff's laws, hand-solved dividers, finite differences, naive sums."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

import mep_neuro as mep
from mep_neuro.activations import ClippedLinear, Rectifiers, activation_of, limits, potential, respond, slope
from mep_neuro.errors import InputError, MepNeuroError, NetworkError, OptionError, SettlingError
from mep_neuro.runs import RunSettings, prepared, train

BACKENDS = ("reference", "torch")
PATIENT = {"max_steps": 3000, "tolerance": 1e-13}


def resistors(
    *sizes: int, hidden: type[nn.Module] = mep.Diodes, gain: float = 8.0, seed: int = 0, bias: bool = True
) -> nn.Sequential:
    """Double precision; sizes[0] inputs, doubled; currents of both signs."""
    layers: list[nn.Module] = [mep.SignedInput(gain)]
    for n, (below, above) in enumerate(itertools.pairwise([2 * sizes[0], *sizes[1:]])):
        layers += [hidden()] if n else []
        layers.append(nn.Linear(below, above, bias=bias))
    module = nn.Sequential(*layers).double()
    rng = torch.Generator().manual_seed(seed)
    mep.resistive_init_(module, generator=rng)
    with torch.no_grad():
        for name, p in module.named_parameters():
            if name.endswith("bias"):
                p.uniform_(-0.3, 0.3, generator=rng)
    return module


def network(*sizes: int, **options: object) -> mep.EnergyNetwork:
    return mep.EnergyNetwork.from_module(resistors(*sizes, **options), energy="resistive")  # type: ignore[arg-type]


def data(inputs: int, outputs: int, samples: int = 4, seed: int = 1) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, inputs, generator=rng, dtype=torch.float64)
    return x, torch.eye(outputs, dtype=torch.float64)[torch.arange(samples) % outputs]


def give(name: str, value: Tensor) -> object:
    return value.numpy() if mep.registry.backend_class(name).capabilities.arrays == "numpy" else value  # type: ignore[attr-defined]


def tensors(states: Sequence[object]) -> list[Tensor]:
    return [torch.as_tensor(s) for s in states]


# --- the definition ---------------------------------------------------------------------------------------------------


def test_the_energy_is_the_sum_over_resistors_less_the_work_of_the_currents() -> None:
    net = network(3, 4, 2)
    x, _ = data(3, 2)
    states = [torch.randn(len(x), 4).double(), torch.randn(len(x), 2).double()]
    wanted, power = torch.zeros(len(x)).double(), torch.zeros(len(x)).double()
    for sample in range(len(x)):
        nodes = [torch.cat([8 * x[sample], -8 * x[sample]]), *(s[sample] for s in states)]
        for level, layer in enumerate((net.module[1], net.module[3]), 1):
            for i in range(layer.out_features):
                wanted[sample] -= layer.bias[i].item() * nodes[level][i]
                for j in range(layer.in_features):
                    share = layer.weight[i, j].item() * (nodes[level][i] - nodes[level - 1][j]) ** 2
                    wanted[sample] += share / 2
                    power[sample] += share
    assert torch.allclose(net.energy(x, states), wanted, rtol=1e-12)
    assert torch.allclose(mep.dissipated_power(net, x, states), power, rtol=1e-12)


def test_without_biases_the_power_is_twice_the_energy() -> None:
    net = network(3, 4, 2, bias=False)
    x, _ = data(3, 2)
    states = [torch.rand(len(x), 4).double(), torch.rand(len(x), 2).double()]
    assert torch.allclose(mep.dissipated_power(net, x, states), 2 * net.energy(x, states).detach(), rtol=1e-12)


def test_what_is_left_over_is_the_current_by_kirchhoff() -> None:
    net = network(3, 4, 2)
    x, _ = data(3, 2)
    states = [torch.rand(len(x), 4).double(), torch.rand(len(x), 2).double()]
    states[0][:, 2:] *= -1  # where the diodes leave both halves free
    u = torch.cat([8 * x, -8 * x], 1)
    first, last = net.module[1], net.module[3]
    drops = [u[:, None, :] - states[0][:, :, None], states[0][:, None, :] - states[1][:, :, None]]
    through = [first.weight * drops[0], last.weight * drops[1]]
    currents = [first.bias + through[0].sum(2) - through[1].sum(1), last.bias + through[1].sum(2)]
    wanted = torch.cat(currents, 1).abs().amax(1).detach()
    assert torch.allclose(mep.kcl_residual(net, x, states), wanted, rtol=1e-10)


def test_a_diode_carries_what_pushes_into_its_end_and_nothing_else() -> None:
    module = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)).double()
    with torch.no_grad():
        for p, value in zip(module.parameters(), (2.0, 0.0, 1.0, 0.0), strict=True):
            p.fill_(value)
    net = mep.EnergyNetwork.from_module(module, energy="resistive")
    ground = [torch.zeros(1, 1).double(), torch.zeros(1, 1).double()]
    assert mep.kcl_residual(net, torch.tensor([[-3.0]]).double(), ground).item() == 0.0  # 6 A through the diode
    assert mep.kcl_residual(net, torch.tensor([[3.0]]).double(), ground).item() == 6.0  # nothing holds it back


# --- rest -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BACKENDS)
def test_a_divider_by_hand(name: str) -> None:
    module = nn.Sequential(nn.Linear(2, 1)).double()
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([[3.0, 1.0]]))
        module[0].bias.fill_(0.5)
    net = mep.EnergyNetwork.from_module(module, energy="resistive")
    x, y = torch.tensor([[2.0, -2.0]]).double(), torch.tensor([[5.0]]).double()
    with mep.backend(name, net) as substrate:
        learner = mep.EquilibriumPropagation(substrate)
        assert learner.predict(x).item() == pytest.approx((3 * 2 - 1 * 2 + 0.5) / 4, rel=1e-14)
        free = learner.free(x)
        for beta in (0.5, -0.5):
            nudge = mep.Nudge(beta, give(name, y))
            nudged = substrate.settle(free.x, nudge=nudge, start=free)
            assert float(nudged.outputs[0, 0]) == pytest.approx((4.5 + beta * 5) / (4 + beta), rel=1e-14)
        pushed = substrate.settle(free.x, nudge=mep.Nudge(2.0, force=give(name, y)), start=free)
        assert float(pushed.outputs[0, 0]) == pytest.approx((4.5 + 10) / 4, rel=1e-14)


@pytest.mark.parametrize("name", BACKENDS)
def test_without_diodes_rest_solves_the_nodal_equations(name: str) -> None:
    net = network(3, 5, 4, 2, hidden=nn.Identity)
    x, _ = data(3, 2)
    weights = [net.module[i].weight.detach() for i in (1, 3, 5)]
    sizes = [6, 5, 4, 2]
    start = np.cumsum([0, *sizes])
    laplacian = torch.zeros(17, 17).double()
    for level, g in enumerate(weights):
        below, above = (slice(start[k], start[k + 1]) for k in (level, level + 1))
        laplacian[above, below], laplacian[below, above] = -g, -g.T
    laplacian -= torch.diag(laplacian.sum(1))
    sources = torch.cat([8 * x, -8 * x], 1)
    injected = torch.cat([net.module[i].bias.detach() for i in (1, 3, 5)])
    wanted = torch.linalg.solve(laplacian[6:, 6:], (injected - sources @ laplacian[:6, 6:]).T).T
    with mep.backend(name, net, **PATIENT) as substrate:
        free = mep.EquilibriumPropagation(substrate).free(x)
    assert torch.allclose(torch.cat(tensors(free.states), 1), wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("hidden", [mep.Diodes, nn.ReLU, nn.Hardtanh, nn.ReLU6, nn.Identity])
@pytest.mark.parametrize("name", BACKENDS)
def test_kirchhoffs_law_holds_at_rest(name: str, hidden: type[nn.Module]) -> None:
    net = network(4, 7, 5, 3, hidden=hidden)
    x, y = data(4, 3)
    with mep.backend(name, net, **PATIENT) as substrate:
        free = mep.EquilibriumPropagation(substrate).free(x)
        assert mep.kcl_residual(net, x, tensors(free.states)).max() < 1e-9
        for beta in (0.4, -0.4):
            nudged = substrate.settle(free.x, nudge=mep.Nudge(beta, give(name, y)), start=free)
            states = tensors(nudged.states)
            assert mep.kcl_residual(net, x, states, injected=beta * (y - states[-1])).max() < 1e-9
            assert mep.kcl_residual(net, x, states).max() > 1e-3


@pytest.mark.parametrize("name", BACKENDS)
def test_rest_is_the_least_energy_that_the_diodes_allow(name: str) -> None:
    net = network(3, 5, 4, 2)
    x, _ = data(3, 2, samples=1)
    shapes = [5, 4, 2]

    def energy(flat: np.ndarray) -> tuple[float, np.ndarray]:
        v = torch.tensor(flat, requires_grad=True)
        e = net.energy(x, [part[None] for part in v.split(shapes)]).sum()
        return e.item(), torch.autograd.grad(e, v)[0].numpy()

    ends = [(0, None)] * 3 + [(None, 0)] * 2 + [(0, None)] * 2 + [(None, 0)] * 2 + [(None, None)] * 2
    best = minimize(energy, np.zeros(11), jac=True, bounds=ends, options={"ftol": 1e-15, "gtol": 1e-10})
    with mep.backend(name, net, **PATIENT) as substrate:
        free = mep.EquilibriumPropagation(substrate).free(x)
    settled = torch.cat(tensors(free.states), 1)[0]
    assert np.allclose(settled.numpy(), best.x, atol=1e-6)
    assert (settled == 0).any()


@pytest.mark.parametrize("solver", ["even_odd", "synchronous", "euler", "anderson"])
@pytest.mark.parametrize("name", BACKENDS)
def test_all_solvers_come_to_the_one_rest(name: str, solver: str) -> None:
    net = network(4, 6, 5, 3)
    x, y = data(4, 3)
    rests = []
    for chosen in ("even_odd", solver):
        with mep.backend(name, net, solver=chosen, **PATIENT) as substrate:
            free = mep.EquilibriumPropagation(substrate).free(x)
            nudged = substrate.settle(free.x, nudge=mep.Nudge(-0.3, give(name, y)), start=free)
            assert bool(torch.as_tensor(nudged.converged).all())
            rests.append(torch.cat([*tensors(free.states), *tensors(nudged.states)], 1))
    assert torch.allclose(*rests, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("cost", ["squared_error", "cross_entropy"])
def test_the_backends_agree(cost: str) -> None:
    net = network(4, 6, 5, 3)
    x, y = data(4, 3)
    found = []
    for name in BACKENDS:
        with mep.backend(name, net) as substrate:
            found.append(mep.EquilibriumPropagation(substrate, beta=0.2, cost=cost).estimate(x, y))
    for parameter in found[0]:
        assert torch.allclose(found[0][parameter], found[1][parameter], rtol=1e-9, atol=1e-11), parameter


# --- gradients --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BACKENDS)
def test_the_gradient_is_that_of_the_cost_by_finite_differences(name: str) -> None:
    net = network(4, 6, 3)
    x, y = data(4, 3)
    with mep.backend(name, net, **PATIENT) as substrate:
        learner = mep.EquilibriumPropagation(substrate, beta=1e-3)

        def loss() -> float:
            return 0.5 * (learner.predict(x) - y).square().sum(1).mean().item()

        gradient = learner.estimate(x, y)
        for parameter, p in net.parameters.items():
            entries, values = p.detach().view(-1), []
            for i in range(p.numel()):
                kept, ends = entries[i].item(), []
                for sign in (1, -1):
                    entries[i] = kept + sign * 1e-5
                    ends.append(loss())
                entries[i] = kept
                values.append((ends[0] - ends[1]) / 2e-5)
            wanted = torch.tensor(values, dtype=torch.float64).view_as(p)
            assert (gradient[parameter] - wanted).norm() < 1e-5 * wanted.norm(), parameter


def naive(net: mep.EnergyNetwork, x: Tensor, terms: list[tuple[float, mep.Equilibrium]]) -> dict[str, Tensor]:
    """sum_k w_k (-1/2) (v_i - u_j)^2 as it stands, in float64, a (batch, n, m) tensor for each phase."""
    found: dict[str, Tensor] = {}
    for weight, e in terms:
        nodes = [net.module[0](x.double()), *(s.double() for s in tensors(e.states))]
        for level, coupling in enumerate(net.couplings):
            drops = nodes[level + 1][:, :, None] - nodes[level][:, None, :]
            o = coupling.weighted
            assert o is not None
            assert o.bias is not None
            parts = {o.weight: -weight / 2 * drops.square().mean(0), o.bias: weight * nodes[level + 1].mean(0)}
            found = {**found, **{n: part + found.get(n, 0.0) for n, part in parts.items()}}
    return found


@pytest.mark.parametrize("phases", [2, 3])
@pytest.mark.parametrize("name", BACKENDS)
def test_the_factorised_contrast_is_the_naive_one(name: str, phases: int) -> None:
    net = network(4, 6, 5, 3)
    x, y = data(4, 3)
    with mep.backend(name, net) as substrate:
        free = mep.EquilibriumPropagation(substrate).free(x)
        ends = [substrate.settle(free.x, nudge=mep.Nudge(b, give(name, y)), start=free) for b in (0.3, -0.2)]
        weights = (2.0, -2.0) if phases == 2 else (1.5, -1.0, -0.5)
        terms = list(zip(weights, [*ends, free], strict=False))
        found, wanted = substrate.contrast(terms), naive(net, x, terms)
    for parameter, value in found.items():
        assert torch.allclose(torch.as_tensor(value), wanted[parameter], rtol=1e-9, atol=1e-11), parameter


def test_the_difference_of_close_phases_keeps_its_digits_in_float32() -> None:
    double = resistors(784, 64, 10, gain=50.0)
    x, y = data(784, 10, samples=32)
    found = {}
    for dtype in (torch.float32, torch.float64):
        net = mep.EnergyNetwork.from_module(copy.deepcopy(double).float().to(dtype), energy="resistive")
        with mep.backend("torch", net) as substrate:
            learner = mep.EquilibriumPropagation(substrate, beta=0.01)
            phases = learner.relax(x.float().to(dtype), y.to(dtype))
            found[dtype] = learner.gradient(phases.terms)
            if dtype == torch.float32:  # from the float32 states alone, what is left of the difference is not much
                squared = naive(net, x.float(), [(-w.real, e) for w, e in phases.terms])["1.weight"]
    for parameter, exact in found[torch.float64].items():
        assert (found[torch.float32][parameter] - exact).norm() < 1e-5 * exact.norm(), parameter
    wanted = found[torch.float64]["1.weight"]
    assert (squared - wanted).norm() > 1e-3 * wanted.norm()


# --- conductances stay conductances -----------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("name", BACKENDS)
def test_what_a_step_took_below_0_is_0_before_the_next_phase(name: str, optimizer: type[torch.optim.Optimizer]) -> None:
    net = network(4, 6, 3)
    x, y = data(4, 3)
    with mep.backend(name, net) as substrate:
        learner = mep.EquilibriumPropagation(substrate, beta=0.2)
        step = optimizer(net.module.parameters(), lr=1.0)  # type: ignore[call-arg]
        learner.estimate(x, y)
        step.step()
        below = {n: (p < 0).clone() for n, p in net.parameters.items() if n in net.conductances}
        assert any(bool(b.any()) for b in below.values())
        learner.predict(x)
        for n, b in below.items():
            assert bool((net.parameters[n][b] == 0).all())
            assert bool((torch.as_tensor(substrate.read()[n]) == net.parameters[n]).all())


def test_fit_leaves_no_conductance_below_0() -> None:
    net = network(4, 6, 3)
    x, y = data(4, 3)
    with mep.backend("torch", net) as substrate:
        learner = mep.EquilibriumPropagation(substrate, beta=0.2)
        mep.fit(learner, (x, y), optimizer=torch.optim.SGD(net.module.parameters(), lr=1.0), epochs=1, batch_size=4)
    weights = [net.parameters[n] for n in net.conductances]
    assert all(bool((w >= 0).all()) for w in weights)
    assert any(bool((w == 0).any()) for w in weights)


def test_a_projection_touches_nothing_else() -> None:
    net = network(4, 6, 3)
    versions = {n: p._version for n, p in net.parameters.items()}
    net.project()
    assert {n: p._version for n, p in net.parameters.items()} == versions
    biases = {n: p.detach().clone() for n, p in net.parameters.items() if n not in net.conductances}
    with torch.no_grad():
        net.parameters["1.weight"][0, 0] = -1.0
    net.project()
    assert net.parameters["1.weight"][0, 0] == 0
    assert all(torch.equal(net.parameters[n], b) for n, b in biases.items())


# --- modules ----------------------------------------------------------------------------------------------------------


def test_inputs_are_doubled_inside_the_first_coupling() -> None:
    net = network(5, 4, 2)
    assert net.input_shape == (5,)
    assert [type(o).__name__ for o in net.couplings[0].operations] == ["Signed", "Dense"]
    assert [c.macs for c in net.couplings] == [10 * 4, 4 * 2]
    assert net.signature() != network(5, 4, 2, gain=9.0).signature()
    x, _ = data(5, 2)
    assert torch.equal(mep.SignedInput(3.0)(x), torch.cat([3 * x, -3 * x], 1))


@pytest.mark.parametrize("name", BACKENDS)
def test_sources_of_both_signs_may_feed_any_energy(name: str) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(mep.SignedInput(2.0), nn.Linear(6, 4), nn.Hardtanh(), mep.SignedInput(0.5), nn.Linear(8, 2))
    net = mep.EnergyNetwork.from_module(module.double(), energy="prediction_error")
    x, y = data(3, 2)
    with mep.backend(name, net, **PATIENT) as substrate:
        learner = mep.EquilibriumPropagation(substrate, beta=1e-4)
        assert torch.allclose(learner.predict(x), module(x), rtol=1e-12)
        gradient = learner.estimate(x, y)
    loss = 0.5 * (module(x) - y).square().sum(1).mean()
    exact = dict(zip(net.parameters, torch.autograd.grad(loss, list(module.parameters())), strict=True))
    assert all((gradient[n] - exact[n]).norm() < 1e-4 * exact[n].norm() for n in exact)


@pytest.mark.parametrize("units", [4, 5])
def test_diodes_hold_one_half_up_and_the_other_down(units: int) -> None:
    diodes, half = mep.Diodes(), (units + 1) // 2
    activation = activation_of(diodes)
    assert activation == Rectifiers()
    v = torch.linspace(-2, 2, 9).double()[:, None].expand(-1, units).clone()
    held = respond(activation, v)
    assert torch.equal(held, diodes(v))
    assert torch.equal(held[:, :half], v[:, :half].clamp_min(0))
    assert torch.equal(held[:, half:], v[:, half:].clamp_max(0))
    low, high = limits(activation, v)
    assert torch.equal(held, torch.maximum(torch.minimum(v, high), low))
    assert torch.equal(slope(activation, v), ((held == v) & (v != 0)).double())
    assert torch.equal(potential(activation, v), v.square() / 2)


def test_limits_of_a_clipped_line_are_its_ends() -> None:
    low, high = limits(ClippedLinear(low=-1.0, high=2.0), torch.zeros(3, 2))
    assert low.tolist() == [[-1.0, -1.0]]
    assert high.tolist() == [[2.0, 2.0]]


def test_conductances_to_begin_with() -> None:
    module = mep.resistive_init_(nn.Sequential(nn.Linear(400, 300), nn.Linear(300, 10)), scale=3.0)
    for layer in (m for m in module.modules() if isinstance(m, nn.Linear)):
        most = 3.0 / layer.in_features**0.5
        assert 0 <= layer.weight.min() < 0.02 * most
        assert 0.98 * most < layer.weight.max() <= most
        assert layer.weight.mean().item() == pytest.approx(most / 2, rel=0.03)
        assert bool((layer.bias == 0).all())
    drawn = [mep.resistive_init_(nn.Linear(4, 3), generator=torch.Generator().manual_seed(2)) for _ in range(2)]
    assert torch.equal(*(m.weight for m in drawn))  # type: ignore[arg-type]


# --- errors -----------------------------------------------------------------------------------------------------------


def positive(module: nn.Sequential) -> nn.Sequential:
    with torch.no_grad():
        for p in module.parameters():
            p.abs_()
    return module


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (nn.Sequential(nn.Linear(4, 2)), None, r"'0.weight' is negative.*resistive_init_"),
        (nn.Sequential(nn.Conv2d(1, 2, 3)), (1, 8, 8), r"'0' \(Conv2d\) is nothing that resistors can be.*Linear"),
        (nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2)), None, r"'2' \(Dropout\)"),
        (nn.Sequential(nn.Linear(4, 4), nn.ReLU(), mep.SignedInput(), nn.Linear(8, 2)), None, r"before the first one"),
        (nn.Sequential(nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 2)), None, r"population 1.*Logistic.*mep.Diodes"),
        (nn.Sequential(nn.Linear(4, 4), nn.Hardsigmoid(), nn.Linear(4, 2)), None, r"no ideal diode.*nn.Hardtanh"),
        (nn.Sequential(mep.SignedInput(), nn.Linear(5, 2)), None, r"takes 5 inputs.*gives \(4,\)"),
        (nn.Sequential(mep.SignedInput(), nn.Linear(8, 2)), (2, 2), r"one axis of units.*nn.Flatten"),
    ],
)
def test_what_resistors_cannot_be_is_named(module: nn.Module, shape: tuple[int, ...] | None, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        mep.EnergyNetwork.from_module(module, energy="resistive", input_shape=shape)


def test_flattened_images_may_come_first() -> None:
    module = positive(nn.Sequential(nn.Flatten(), mep.SignedInput(), nn.Linear(8, 2)))
    net = mep.EnergyNetwork.from_module(module, energy="resistive", input_shape=(1, 2, 2))
    with mep.backend("torch", net) as substrate:
        assert mep.EquilibriumPropagation(substrate).predict(torch.rand(3, 1, 2, 2)).shape == (3, 2)


@pytest.mark.parametrize("energy", ["hopfield", "prediction_error"])
def test_diodes_are_for_resistors(energy: str) -> None:
    with pytest.raises(NetworkError, match=r"population 1 has Diodes.*nn.ReLU"):
        mep.EnergyNetwork.from_module(nn.Sequential(nn.Linear(4, 4), mep.Diodes(), nn.Linear(4, 2)), energy=energy)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_node_without_conductances_is_named(name: str) -> None:
    net = network(4, 6, 3)
    with torch.no_grad():
        net.parameters["1.weight"][2] = 0.0
        net.parameters["3.weight"][:, 2] = 0.0
    with mep.backend(name, net) as substrate, pytest.raises(InputError, match=r"node 2 of population 1"):
        mep.EquilibriumPropagation(substrate).predict(data(4, 3)[0])


@pytest.mark.parametrize("name", BACKENDS)
def test_negative_conductances_do_not_reach_a_substrate(name: str) -> None:
    net = network(4, 6, 3)
    with mep.backend(name, net) as substrate:
        values = {n: give(name, p.detach().clone()) for n, p in net.parameters.items()}
        substrate.program(values)
        with pytest.raises(InputError, match=r"'1.weight' is negative"):
            substrate.program({**values, "1.weight": -values["1.weight"]})  # type: ignore[operator]
        substrate.apply({"1.weight": -2 * values["1.weight"]})  # type: ignore[operator]
        assert bool((torch.as_tensor(substrate.read()["1.weight"]) == 0).all())


def test_torch_refuses_what_was_made_negative_behind_its_back() -> None:
    net = network(4, 6, 3)
    with mep.backend("torch", net) as substrate:
        with torch.no_grad():
            net.parameters["1.weight"][0, 0] = -1.0
        with pytest.raises(InputError, match=r"'1.weight' is negative \(-1 at the least\)"):
            substrate.settle(data(4, 3)[0])


@pytest.mark.parametrize("cost", ["squared_error", "cross_entropy"])
@pytest.mark.parametrize("name", BACKENDS)
def test_a_push_that_the_outputs_cannot_hold_against_is_refused(name: str, cost: str) -> None:
    net = network(4, 6, 3)
    x, y = data(4, 3)
    limit = net.steepest_negative_beta(cost)
    least = float(net.parameters["3.weight"].detach().sum(1).min())
    assert limit == pytest.approx(least * (2 if cost == "cross_entropy" else 1), rel=1e-12)
    with mep.backend(name, net) as substrate:
        with pytest.raises(InputError, match=r"no minimum from beta"):
            mep.EquilibriumPropagation(substrate, beta=limit, cost=cost)
        mep.EquilibriumPropagation(substrate, beta=2 * limit, cost=cost, nudging="one_sided").estimate(x, y)
        learner = mep.EquilibriumPropagation(substrate, beta=0.6 * limit, cost=cost)
        with torch.no_grad():
            net.parameters["3.weight"].mul_(0.5)  # as training may
        with pytest.raises(InputError, match=r"beta is -.*outputs have no minimum"):
            learner.estimate(x, y)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_push_that_the_whole_network_cannot_hold_against_runs_away_by_name(name: str) -> None:
    module = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)).double()
    with torch.no_grad():
        for p, value in zip(module.parameters(), (0.1, 0.0, 1.0, 0.0), strict=True):
            p.fill_(value)
    net = mep.EnergyNetwork.from_module(module, energy="resistive")
    x, y = torch.ones(2, 1).double(), torch.zeros(2, 1).double()
    with mep.backend(name, net, max_steps=200) as substrate:
        free = mep.EquilibriumPropagation(substrate, beta=0.05).estimate(x, y)
        assert free
        learner = mep.EquilibriumPropagation(substrate, beta=0.5)  # 1 S at the output, but 1/11 S to the source
        with pytest.raises(SettlingError, match=r"smaller beta, or nudging='one_sided'"):
            learner.estimate(x, y)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: mep.SignedInput(0.0), OptionError, "the gain is 0"),
        (lambda: mep.SignedInput(float("inf")), OptionError, "the gain is inf"),
        (lambda: mep.resistive_init_(nn.Linear(2, 2), scale=-1.0), OptionError, "the scale is -1"),
        (lambda: mep.resistive_init_(nn.ReLU()), NetworkError, "no Linear"),
        (lambda: network(4, 3).contraction(torch.zeros(1, 4).double()), InputError, "one free equilibrium"),
    ],
)
def test_senseless_calls(call: object, kind: type[MepNeuroError], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()  # type: ignore[operator]


@pytest.mark.parametrize("meter", [mep.kcl_residual, mep.dissipated_power])
def test_meters_are_for_circuits(meter: object) -> None:
    net = mep.EnergyNetwork.from_module(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(InputError, match=r"'hopfield', which is no circuit"):
        meter(net, torch.zeros(1, 2), [torch.zeros(1, 2)])  # type: ignore[operator]


@pytest.mark.parametrize("name", BACKENDS)
def test_there_are_no_complex_voltages(name: str) -> None:
    with mep.backend(name, network(4, 3, hidden=nn.Identity)) as substrate, pytest.raises(MepNeuroError):
        mep.EquilibriumPropagation(substrate, nudging="holomorphic")


def test_only_hopfield_is_compiled() -> None:
    with pytest.raises(OptionError, match="leave it out for resistive"):
        mep.backend("torch", network(4, 3), compile=True)


# --- runs -------------------------------------------------------------------------------------------------------------

SMALL = RunSettings(layers=(64, 32, 10), energy="resistive", epochs=3, hold_out=200, lr=3e-3)


def test_a_runs_model_has_sources_of_both_signs_diodes_and_conductances() -> None:
    model = SMALL.model()
    assert [type(m) for m in model] == [mep.SignedInput, nn.Linear, mep.Diodes, nn.Linear]
    assert (model[0].gain, model[1].in_features) == (50.0, 128)
    assert all(bool((m.weight >= 0).all()) for m in model if isinstance(m, nn.Linear))
    given = SMALL.model_copy(update={"activation": "relu", "input_gain": 7.0}).model()
    assert (given[0].gain, type(given[2])) == (7.0, nn.ReLU)
    assert torch.equal(given[1].weight, model[1].weight)


def test_a_run_learns_and_its_input_gain_matters() -> None:
    history = train(SMALL)
    assert history.last.test_accuracy is not None
    assert history.last.test_accuracy > 0.85
    other = train(SMALL.model_copy(update={"input_gain": 20.0}))
    assert other.last.train_cost != history.last.train_cost


def test_a_run_is_compared_with_a_feed_forward_network_of_the_same_layers() -> None:
    found = mep.compare(SMALL.model_copy(update={"epochs": 1}), ["torch"], profiles=["cmos_45nm"], progress=False)
    resistive, backprop = found.runs
    assert resistive.settings.energy == "resistive"
    assert [type(m) for m in backprop.settings.model()] == [nn.Linear, nn.ReLU, nn.Linear]
    assert found.document["by_steps"] == found.document["by_batch"] == []


def test_going_on_equals_not_stopping(tmp_path: object) -> None:
    whole = train(SMALL, out=f"{tmp_path}/whole")  # type: ignore[arg-type]
    with prepared(SMALL.model_copy(update={"epochs": 2})) as run:
        run.train(out=tmp_path / "parts")  # type: ignore[operator]
    parts = train(SMALL, out=tmp_path / "parts", resume=True)  # type: ignore[operator]
    assert [r.train_cost for r in parts.epochs] == [r.train_cost for r in whole.epochs]
