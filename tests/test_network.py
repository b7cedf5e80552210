"""Reading a network off a module: what is held, and what is refused with the cure."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import mep_neuro as mep
from mep_neuro.activations import ClippedLinear, Logistic, activation_module, activation_of, potential, respond
from mep_neuro.errors import InputError, NetworkError, OptionError


def test_a_chain_of_populations_and_couplings() -> None:
    module = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)),
        nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(32, 5), nn.Hardsigmoid(), nn.Linear(5, 3)),
    )
    network = mep.EnergyNetwork.from_module(module, input_shape=(1, 8, 8))
    assert [p.shape for p in network.populations] == [(2, 8, 8), (5,), (3,)]
    kinds = [[type(o).__name__ for o in c.operations] for c in network.couplings]
    assert kinds == [["Conv2d"], ["AvgPool2d", "Flatten", "Dropout", "Dense"], ["Dense"]]
    assert [c.macs for c in network.couplings] == [2 * 64 * 9, 160, 15]
    assert network.couplings[1].accumulates == 2 * 16 * 4
    assert [c.weights for c in network.couplings] == [2 * 9 + 2, 160 + 5, 18]
    assert set(network.parameters) == set(dict(module.named_parameters()))
    assert all(network.parameters[n] is p for n, p in module.named_parameters())


def test_two_linears_in_a_row_have_a_linear_population_between_them() -> None:
    network = mep.EnergyNetwork.from_module(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)))
    assert [p.activation for p in network.populations] == [ClippedLinear(), ClippedLinear()]


def test_parameters_stay_the_modules_own_after_moving_and_loading() -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    network = mep.EnergyNetwork.from_module(module)
    module.double()
    assert network.dtype is torch.float64
    module.load_state_dict({k: torch.ones_like(v) for k, v in module.state_dict().items()})
    assert all(bool((p == 1).all()) for p in network.parameters.values())
    module[0].weight = nn.Parameter(torch.zeros(3, 4, dtype=torch.float64))
    assert network.parameters["0.weight"] is module[0].weight


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.relu(self.inner(x))


class Sneaky(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(super().forward(x), 1)


def hooked() -> nn.Sequential:
    module = nn.Sequential(nn.Linear(4, 2))
    module[0].register_forward_hook(lambda m, x, y: 2 * y)
    return module


def shared_layer() -> nn.Sequential:
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.ReLU(), layer)


def shared_weight() -> nn.Sequential:
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    module[2].weight = module[0].weight
    return module


def without_weight() -> nn.Sequential:
    module = nn.Sequential(nn.Linear(4, 4))
    module[0].weight = None
    return module


def with_stray_parameter() -> nn.Sequential:
    module = nn.Sequential(nn.Linear(4, 4))
    module.register_parameter("stray", nn.Parameter(torch.ones(1)))
    return module


def normed() -> nn.Sequential:
    return nn.Sequential(torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)))


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2)), (1, 8, 8), r"'1' \(MaxPool2d\).*nn.AvgPool2d"),
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), None, r"'1' \(BatchNorm1d\).*per sample"),
        (nn.Sequential(nn.Linear(4, 4), nn.Softmax(1)), None, r"'1' \(Softmax\).*cross_entropy"),
        (nn.Sequential(nn.Linear(4, 4), nn.GELU()), None, r"'1' \(GELU\).*nn.ReLU"),
        (nn.Sequential(nn.Linear(4, 4), Residual()), None, r"'1' \(Residual\).*functional calls or residual adds"),
        (nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), Residual())), None, r"'1.1' \(Residual\)"),
        (Residual(), None, r"the model is a Residual.*nn.Sequential"),
        (Sneaky(nn.Linear(4, 4)), None, r"the model is a Sneaky"),
        (hooked(), None, r"'0' \(Linear\) has hooks"),
        (shared_layer(), None, r"'2' \(Linear\) is used twice"),
        (shared_weight(), None, r"'2' \(Linear\) shares its weight with module '0'"),
        (without_weight(), None, r"'0' \(Linear\) has no weight"),
        (with_stray_parameter(), None, r"parameters of its own"),
        (normed(), None, r"'0' \(ParametrizedLinear\)"),
        (nn.Sequential(nn.LazyLinear(3)), (4,), r"'0' \(LazyLinear\)"),
        (nn.Sequential(nn.ReLU(), nn.Linear(4, 4)), None, r"'0' \(ReLU\) follows the input|input_shape"),
        (nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Tanh()), None, r"'2' \(Tanh\) follows another activation"),
        (nn.Sequential(nn.Linear(4, 4), nn.Linear(3, 2)), None, r"takes 3 inputs.*gives \(4,\)"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(72, 2)), (1, 8, 8), r"put an nn.Flatten before it"),
        (nn.Sequential(nn.Conv2d(3, 2, 3)), (1, 8, 8), r"takes 3 channels"),
        (nn.Sequential(nn.Conv2d(1, 2, 9)), (1, 8, 8), r"window larger than its input"),
        (nn.Sequential(nn.Conv2d(1, 2, 3, padding="same")), (1, 8, 8), r"padding in numbers"),
        (nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular")), (1, 8, 8), r"use zeros"),
        (nn.Sequential(nn.Conv2d(1, 2, 3)), None, r"input_shape=.*\(1, 28, 28\)"),
        (nn.Sequential(nn.Flatten()), (1, 8, 8), r"nothing to train"),
        (nn.Sequential(nn.Linear(4, 4), nn.Dropout(1.0), nn.Linear(4, 2)), None, r"drops everything"),
        (nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2).double()), None, r"differ in type"),
        (nn.Sequential(nn.Linear(4, 4)).bfloat16(), None, r"torch.autocast"),
        (nn.Sequential(nn.Flatten(2), nn.Linear(4, 4)), (1, 4), r"use nn.Flatten\(\)"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_cannot_be_held_is_named_with_what_to_use_instead(
    module: nn.Module, shape: tuple[int, ...] | None, message: str
) -> None:
    with pytest.raises(NetworkError, match=message):
        mep.EnergyNetwork.from_module(module, input_shape=shape)


def test_an_unknown_energy_offers_the_nearest() -> None:
    with pytest.raises(OptionError, match="Did you mean 'hopfield'"):
        mep.EnergyNetwork.from_module(nn.Sequential(nn.Linear(2, 2)), energy="hopfeld")


def test_samples_are_checked_and_flattened() -> None:
    network = mep.EnergyNetwork.from_module(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    assert network.batch(torch.zeros(3, 1, 2, 2)).shape == (3, 4)
    for wrong in (torch.zeros(4), torch.zeros(3, 5), torch.zeros(3, 4, dtype=torch.uint8)):
        with pytest.raises(InputError):
            network.batch(wrong)


@pytest.mark.parametrize(
    "name", ["relu", "clipped_relu", "hardsigmoid", "hardtanh", "identity", "relu6", "sigmoid", "tanh"]
)
def test_an_activation_is_its_modules_function_and_the_slope_of_its_potential(name: str) -> None:
    module = activation_module(name)
    activation = activation_of(module)
    assert activation is not None
    drive = torch.linspace(-4, 7, 41, dtype=torch.float64)
    s = respond(activation, drive)
    assert torch.allclose(s, module(drive), atol=1e-12)
    lowest = -math.inf if isinstance(activation, Logistic) else activation.low
    inside = (s > lowest) & (s < activation.high)
    s = s[inside].clone().requires_grad_(True)
    (inverse,) = torch.autograd.grad(potential(activation, s).sum(), s)  # G' = rho^-1
    assert torch.allclose(inverse, drive[inside], atol=1e-8)
    slopes = (module(drive + 1e-5) - module(drive - 1e-5)) / 2e-5
    assert slopes.max() <= activation.steepest + 1e-6


def test_an_unknown_activation_offers_the_nearest() -> None:
    with pytest.raises(OptionError, match="Did you mean 'hardsigmoid'"):
        activation_module("hard_sigmoid")


def test_the_signature_tells_networks_apart() -> None:
    def signature(*layers: nn.Module) -> dict[str, object]:
        return mep.EnergyNetwork.from_module(nn.Sequential(*layers)).signature()

    same = signature(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    assert same == signature(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    assert same != signature(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    assert same != signature(nn.Linear(4, 3, bias=False), nn.ReLU(), nn.Linear(3, 2))
