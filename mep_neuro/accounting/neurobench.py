"""NeuroBench's algorithm-track metrics of a module's forward pass, under NeuroBench's own names.

They describe inference by `module(x)`, so what NeuroBench itself reports for the module, and not equilibrium
propagation, which settles instead: figures about training stand beside them under keys that begin with "mep:".

Yik et al., The NeuroBench framework, Nature Communications 16, 1545 (2025), doi:10.1038/s41467-025-56739-4; how each
metric is counted is read off the package, neurobench 2.3.0. None of its code is here, and it need not be installed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from mep_neuro.batches import Data, draw_batches, is_pair
from mep_neuro.costs import correct, encode_target
from mep_neuro.errors import InputError, NetworkError

Connection: TypeAlias = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d

ACTIVATIONS = (nn.ReLU, nn.Sigmoid)  # all that NeuroBench 2.3.0 looks at, spiking neurons apart
RECURRENT = (nn.RNNBase, nn.RNNCellBase)


def neurobench_metrics(module: nn.Sequential, data: Data, *, batch_size: int = 1000) -> dict[str, object]:
    """The metrics of NeuroBench 2.3.0's algorithm track for inference by `module(x)`, in evaluation mode.

        Footprint                  bytes of parameters and buffers
        ConnectionSparsity         zero weights / weights of Linear and Conv layers, biases apart, to 4 decimals;
                                   None without such a layer
        ParameterCount             numbers in all parameters
        ClassificationAccuracy     share of samples whose largest output is the label's; None for targets that are no
                                   labels
        ActivationSparsity         zero outputs / outputs of all ReLU and Sigmoid layers; 0 without such a layer
        ActivationSparsityByLayer  the same by the layer's name in its own Sequential; layers of one name in several
                                   Sequentials are one entry
        MembraneUpdates            0: there are no spiking neurons
        NeuronOperations           for spiking neurons too. The package gives 0 if there is a ReLU or Sigmoid, else
                                   {"Effective Neuron Ops": 0, "Neuron Dense Ops": 0}
        SynapticOperations         per sample, over Linear and Conv layers, biases apart:
            Effective_MACs         pairs of a nonzero weight and a nonzero input that meet, where a layer's input is
                                   graded
            Effective_ACs          the same where each value of a layer's input in the batch is -1, 0 or 1
            Dense                  all pairs of a weight and an input; zeros that a Conv pads with are no inputs

    Other layers (Hardsigmoid, Tanh, AvgPool2d...) count for nothing but their parameters and buffers, as in the
    package. Counts are exact; the package adds them up in float32, so its own are rounded from 2^24 a batch and layer.

    data:       (x, target) tensors, or an iterable of such batches. x: (batch, *inputs), floating point; target:
                integer labels (batch,), or values (batch, *outputs).
    batch_size: how a pair of tensors is cut. It matters where MACs and ACs are told apart, batch by batch, and
                nowhere else.

    Raises `NetworkError` for a module that is no `nn.Sequential`, has recurrent layers, or weights that are worked
    out anew at each pass (pruning, parametrization); `InputError` for data that are empty, do not match, do not fit
    the module, or are not finite. The module's modes and hooks are left as they were, come what may.
    """
    _check_module(module)
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; give 1 or more")
    if is_pair(data) and len(data[0]) != len(data[1]):
        raise InputError(f"x has {len(data[0])} samples, but the target has {len(data[1])}")
    tally = _Tally()
    with _watched(module, tally), torch.no_grad():
        for x, target in draw_batches(data, batch_size, None):
            tally.add(_run(module, x), target)
    if tally.samples == 0:
        raise InputError("the data hold no samples")
    no_neurons = {"Effective Neuron Ops": 0.0, "Neuron Dense Ops": 0.0}
    return {
        "Footprint": sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers())),
        "ConnectionSparsity": _connection_sparsity(module),
        "ParameterCount": sum(p.numel() for p in module.parameters()),
        "ClassificationAccuracy": tally.correct / tally.samples if tally.labels else None,
        "ActivationSparsity": _share(sum(tally.zeros.values()), sum(tally.units.values())),
        "ActivationSparsityByLayer": {name: _share(tally.zeros[name], units) for name, units in tally.units.items()},
        "MembraneUpdates": 0.0,
        "NeuronOperations": 0.0 if any(_layers(module, ACTIVATIONS)) else no_neurons,
        "SynapticOperations": tally.synaptic_operations(),
    }


@dataclass
class _Tally:
    """What has been met so far.

    zeros, units: of activation layers, by name.
    inputs:       by (layer, one input's shape, whether the batch's values were all -1, 0 or 1): how many samples came,
                  and how often each input was not zero.
    """

    samples: int = 0
    correct: int = 0
    labels: bool = True
    zeros: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    units: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    inputs: dict[tuple[Connection, torch.Size, bool], tuple[int, Tensor]] = field(default_factory=dict)

    def add(self, outputs: Tensor, target: Tensor) -> None:
        """A batch's answers."""
        if len(target) != len(outputs):
            raise InputError(f"the module gives {len(outputs)} samples, but the target has {len(target)}")
        encoded = encode_target(target.to(outputs.device), tuple(outputs.shape[1:]), outputs.dtype)
        self.samples += len(outputs)
        self.labels = self.labels and (target.dim(), outputs.dim()) == (1, 2)  # one integer for several outputs
        if self.labels:
            self.correct += int(correct(outputs, encoded).sum())

    def add_activation(self, name: str, outputs: Tensor) -> None:
        """What an activation layer gave."""
        self.units[name] += outputs.numel()
        self.zeros[name] += outputs.numel() - int(outputs.count_nonzero())

    def add_input(self, layer: Connection, x: Tensor) -> None:
        """What a connection layer is about to take."""
        active = x != 0
        binary = bool((~active | (x.abs() == 1)).all())
        key = (layer, x.shape[1:], binary)
        samples, times = self.inputs.get(key, (0, torch.zeros(x.shape[1:], dtype=torch.float64)))
        self.inputs[key] = (samples + len(x), times + active.sum(0).cpu())

    def synaptic_operations(self) -> dict[str, float]:
        """Pairs of a weight and an input that meet, per sample."""
        effective, dense = {True: 0, False: 0}, 0
        for (layer, _, binary), (samples, times) in self.inputs.items():
            effective[binary] += _pairs(layer, layer.weight != 0, times)
            dense += samples * _pairs(layer, torch.ones_like(layer.weight), torch.ones_like(times))
        return {
            "Effective_MACs": effective[False] / self.samples,
            "Effective_ACs": effective[True] / self.samples,
            "Dense": dense / self.samples,
        }


def _pairs(layer: Connection, weights: Tensor, inputs: Tensor) -> int:
    """How many pairs meet, given how often each weight and each input takes part: as the layer is linear, the sum of
    its outputs. Exact up to 2^53."""
    given = {"weight": weights.detach().cpu().double()}
    if layer.bias is not None:
        given["bias"] = torch.zeros(len(weights), dtype=torch.float64)
    with torch.no_grad():
        return int(torch.func.functional_call(layer, given, (inputs.unsqueeze(0),)).sum())


@contextmanager
def _watched(module: nn.Module, tally: _Tally) -> Iterator[None]:
    """The module in evaluation mode, with hooks that fill the tally; as it was before when this ends."""
    modes = [(m, m.training) for m in module.modules()]
    with ExitStack() as hooks:
        for name, layer in _layers(module, ACTIVATIONS):
            hook = layer.register_forward_hook(lambda _, __, out, name=name: tally.add_activation(name, out))
            hooks.enter_context(hook)
        for _, layer in _layers(module, Connection):
            hooks.enter_context(layer.register_forward_pre_hook(lambda own, given: tally.add_input(own, given[0])))
        try:
            module.eval()
            yield
        finally:
            for m, mode in modes:
                m.training = mode


def _run(module: nn.Module, x: Tensor) -> Tensor:
    """The module's outputs, on its device and in its precision."""
    if not x.is_floating_point():
        raise InputError(
            f"x holds {str(x.dtype).rpartition('.')[2]}; give floating point numbers, e.g. x.float() / 255"
        )
    if not bool(torch.isfinite(x).all()):
        raise InputError("x is not finite: clean the data")
    first = next(module.parameters(), x)
    try:
        outputs: Tensor = module(x.to(first.device, first.dtype))
    except (RuntimeError, IndexError) as error:
        raise InputError(f"the module cannot run on x of shape {tuple(x.shape)}: {error}") from error
    if not bool(torch.isfinite(outputs).all()):
        raise InputError("the module's outputs are not finite: its training diverged")
    return outputs


def _layers(module: nn.Module, kinds: Any) -> Iterator[tuple[str, Any]]:
    """The layers of some kinds inside a module, each with its name in its parent; nothing inside such a layer."""
    for name, child in module.named_children():
        if isinstance(child, kinds):
            yield name, child
        else:
            yield from _layers(child, kinds)


def _check_module(module: nn.Module) -> None:
    if not isinstance(module, nn.Sequential):
        raise NetworkError(
            f"the module is a {type(module).__name__}, whose forward() may do what no hook sees: give an nn.Sequential"
        )
    for name, layer in _layers(module, RECURRENT):
        raise NetworkError(f"{name!r} ({type(layer).__name__}) is recurrent: only feed-forward layers are counted")
    for name, layer in _layers(module, Connection):
        if not isinstance(layer.weight, nn.Parameter):
            raise NetworkError(
                f"{name!r} ({type(layer).__name__}) works its weight out anew at each pass: make it permanent first, "
                "with torch.nn.utils.prune.remove or torch.nn.utils.parametrize.remove_parametrizations"
            )


def _connection_sparsity(module: nn.Module) -> float | None:
    weights = [layer.weight.detach() for _, layer in _layers(module, Connection)]
    total = sum(w.numel() for w in weights)
    if total == 0:
        return None
    zeros = sum(w.numel() - int(w.count_nonzero()) for w in weights)
    return round(float(torch.tensor(zeros) / total), 4)  # divided in float32, as the package does


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
