"""NeuroBench's metrics: by hand on small nets, and equal to the package's own where it is installed."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune
from torch.utils.data import DataLoader, TensorDataset

from mep_neuro.accounting.neurobench import neurobench_metrics
from mep_neuro.errors import InputError, NetworkError

prune: Any = torch_prune  # it has no types

Pair = tuple[Tensor, Tensor]


def dense(weights: list[list[float]], biases: list[float]) -> nn.Linear:
    layer = nn.Linear(len(weights[0]), len(weights))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weights))
        layer.bias.copy_(torch.tensor(biases))
    return layer


@pytest.fixture
def small() -> Any:
    """3-2-2, with 2 of 6 and 1 of 4 weights zero."""
    first = dense([[1, 0, 2], [0, -1, 0.5]], [-1, -2])
    return nn.Sequential(first, nn.ReLU(), dense([[1, 1], [0, 3]], [0, 1]))


X = torch.tensor([[0.5, 0, 2], [1, 3, 0]])  # hidden (3.5, 0) and (0, 0); outputs (3.5, 1) and (0, 1)
LABELS = torch.tensor([0, 0])


def operations(module: nn.Sequential, data: Any, **options: int) -> Any:
    return neurobench_metrics(module, data, **options)["SynapticOperations"]


class TestByHand:
    def test_all_metrics_of_a_small_net(self, small: Any) -> None:
        assert neurobench_metrics(small, (X, LABELS)) == {
            "Footprint": 4 * (6 + 2 + 4 + 2),
            "ConnectionSparsity": 0.3,
            "ParameterCount": 14,
            "ClassificationAccuracy": 0.5,
            "ActivationSparsity": 3 / 4,
            "ActivationSparsityByLayer": {"1": 3 / 4},
            "MembraneUpdates": 0.0,
            "NeuronOperations": 0.0,
            # nonzero weights below each input: 1, 1, 2 and then 1, 2. Samples: 1 + 2 and 1, then 1 + 1 and none
            "SynapticOperations": {"Effective_MACs": (4 + 2) / 2, "Effective_ACs": 0.0, "Dense": 6 + 4},
        }

    def test_footprint_is_in_bytes_and_counts_buffers(self, small: Any) -> None:
        assert neurobench_metrics(small.double(), (X, LABELS))["Footprint"] == 8 * 14
        small.register_buffer("scale", torch.ones(3))
        assert neurobench_metrics(small, (X, LABELS))["Footprint"] == 8 * 14 + 4 * 3

    def test_connection_sparsity_has_four_decimals(self) -> None:
        module = nn.Sequential(dense([[0, 1, 1]], [0]))
        assert neurobench_metrics(module, (X, torch.zeros(2, 1)))["ConnectionSparsity"] == 0.3333

    def test_biases_are_no_synapses(self, small: Any) -> None:
        before = neurobench_metrics(small, (X, LABELS))
        with torch.no_grad():
            small[2].bias.zero_()
        after = neurobench_metrics(small, (X, LABELS))
        for name in ("SynapticOperations", "ConnectionSparsity"):
            assert after[name] == before[name]

    @pytest.mark.parametrize("x", [[1.0, 0, 1], [-1.0, 0, 0], [0.0, 0, 0]])
    def test_inputs_of_minus_one_zero_and_one_are_accumulated(self, small: Any, x: list[float]) -> None:
        del small[1:]
        pairs = {"Effective_MACs": 0.0, "Effective_ACs": abs(x[0]) + 2 * x[2], "Dense": 6.0}
        assert operations(small, (torch.tensor([x]), LABELS[:1])) == pairs

    def test_graded_inputs_of_a_layer_are_told_batch_by_batch(self, small: Any) -> None:
        del small[1:]
        data = (torch.tensor([[1.0, 1, 1], [2, 0, 0]]), LABELS)
        assert operations(small, data) == {"Effective_MACs": (4 + 1) / 2, "Effective_ACs": 0.0, "Dense": 6.0}
        assert operations(small, data, batch_size=1) == {"Effective_MACs": 1 / 2, "Effective_ACs": 2.0, "Dense": 6.0}

    def test_padding_is_no_input(self) -> None:
        layer = nn.Conv2d(1, 1, 3, padding=1)
        module = nn.Sequential(layer, nn.Flatten())
        x = torch.zeros(1, 1, 3, 3)
        x[0, 0, 1, 1], x[0, 0, 0, 0] = 0.5, 2  # all 9 outputs see the centre, 4 see the corner
        assert operations(module, (x, torch.zeros(1, 9))) == {
            "Effective_MACs": 13.0,
            "Effective_ACs": 0.0,
            "Dense": 49.0,  # (2 + 3 + 2)^2: kernel places inside the image, over rows and over columns
        }
        with torch.no_grad():
            layer.weight[0, 0, 1, 1] = 0  # the centre's own output, and the corner's
        assert operations(module, (x, torch.zeros(1, 9)))["Effective_MACs"] == 11.0

    def test_a_convolutional_net(self) -> None:
        net = nn.Sequential(
            nn.Conv2d(1, 2, 2, bias=False), nn.Sigmoid(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(2, 3)
        )
        metrics = neurobench_metrics(net, (torch.full((5, 1, 3, 3), 0.5), torch.zeros(5, dtype=torch.int64)))
        assert metrics["ParameterCount"] == 8 + 9
        assert metrics["ActivationSparsityByLayer"] == {"1": 0.0}
        assert metrics["SynapticOperations"] == {"Effective_MACs": 32.0 + 6, "Effective_ACs": 0.0, "Dense": 32.0 + 6}

    @pytest.mark.parametrize(("stride", "padding", "dilation", "groups"), [(1, 0, 1, 1), (2, 1, 1, 2), (1, 2, 2, 1)])
    def test_convolution_as_in_its_definition(self, stride: int, padding: int, dilation: int, groups: int) -> None:
        torch.manual_seed(0)
        layer = nn.Conv2d(2, 4, (3, 2), stride=stride, padding=padding, dilation=dilation, groups=groups)
        with torch.no_grad():
            layer.weight[torch.rand_like(layer.weight) < 0.4] = 0
        x = torch.randn(3, 2, 5, 6) * (torch.rand(3, 2, 5, 6) < 0.5)
        out = layer(x)
        effective = total = 0
        for n, o, i, j in itertools.product(*map(range, out.shape)):
            for c, a, b in itertools.product(*map(range, layer.weight.shape[1:])):
                row, column = i * stride + a * dilation - padding, j * stride + b * dilation - padding
                if 0 <= row < 5 and 0 <= column < 6:
                    channel = o // (4 // groups) * (2 // groups) + c
                    total += 1
                    effective += bool(layer.weight[o, c, a, b] != 0) and bool(x[n, channel, row, column] != 0)
        module = nn.Sequential(layer)
        assert operations(module, (x, torch.zeros_like(out))) == {
            "Effective_MACs": effective / 3,
            "Effective_ACs": 0.0,
            "Dense": total / 3,
        }

    def test_counts_are_exact_beyond_float32(self) -> None:
        x = torch.full((4200, 64), 0.5)
        x[0, 0] = 0
        assert 4200 * 64 * 63 > 2**24
        module = nn.Sequential(nn.Linear(64, 63))
        found = operations(module, (x, torch.zeros(4200, dtype=torch.int64)), batch_size=4200)
        assert found["Effective_MACs"] * 4200 == 4200 * 64 * 63 - 63

    @pytest.mark.parametrize("activation", [nn.Hardsigmoid, nn.Tanh, nn.Hardtanh, nn.ReLU6, nn.Identity])
    def test_only_relu_and_sigmoid_are_activations_to_neurobench(self, activation: Callable[[], nn.Module]) -> None:
        metrics = neurobench_metrics(nn.Sequential(nn.Linear(3, 2), activation(), nn.Linear(2, 2)), (X, LABELS))
        assert metrics["ActivationSparsity"] == 0.0
        assert metrics["ActivationSparsityByLayer"] == {}
        assert metrics["MembraneUpdates"] == 0.0
        assert metrics["NeuronOperations"] == {"Effective Neuron Ops": 0.0, "Neuron Dense Ops": 0.0}

    def test_layers_go_by_their_name_in_their_own_sequential(self) -> None:
        first = nn.Sequential(dense([[1, 0, 0], [0, 1, 0]], [0, 0]), nn.ReLU())
        second = nn.Sequential(dense([[-1, 0], [-1, 0]], [0, 0]), nn.ReLU())
        metrics = neurobench_metrics(nn.Sequential(first, second), (X, LABELS))
        assert metrics["ActivationSparsityByLayer"] == {"1": 5 / 8}  # 1 of 4 zero, then all 4
        assert metrics["ActivationSparsity"] == 5 / 8

    def test_no_layer_with_weights(self) -> None:
        metrics = neurobench_metrics(nn.Sequential(nn.ReLU()), (X, X))
        assert metrics["ConnectionSparsity"] is None
        assert metrics["ParameterCount"] == metrics["Footprint"] == 0
        assert metrics["SynapticOperations"] == {"Effective_MACs": 0.0, "Effective_ACs": 0.0, "Dense": 0.0}
        assert metrics["ActivationSparsity"] == 2 / 6

    @pytest.mark.parametrize("target", [torch.zeros(2, 2), torch.tensor([[0, 1], [1, 0]])])
    def test_targets_that_are_no_labels_have_no_accuracy(self, small: Any, target: Tensor) -> None:
        assert neurobench_metrics(small, (X, target))["ClassificationAccuracy"] is None

    @pytest.mark.parametrize("target", [torch.zeros(2), LABELS])
    def test_one_value_a_sample_is_no_label(self, target: Tensor) -> None:
        module = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))
        assert neurobench_metrics(module, (X, target))["ClassificationAccuracy"] is None


class TestData:
    def test_the_cut_into_batches_changes_nothing(self) -> None:
        module, data = CASES["dense, ReLU"]()
        whole = neurobench_metrics(module, data)
        assert neurobench_metrics(module, data, batch_size=7) == whole
        assert neurobench_metrics(module, DataLoader(TensorDataset(*data), batch_size=9)) == whole
        assert neurobench_metrics(module, [data]) == whole

    def test_a_sample_of_another_precision(self, small: Any) -> None:
        assert neurobench_metrics(small, (X.double(), LABELS)) == neurobench_metrics(small, (X, LABELS))

    @pytest.mark.parametrize(
        ("data", "says"),
        [
            ((X, LABELS[:1]), "x has 2 samples, but the target has 1"),
            ([(X, LABELS[:1])], "gives 2 samples, but the target has 1"),
            ((X[:0], LABELS[:0]), "the data hold no samples"),
            ([], "the data hold no samples"),
            ((X.long(), LABELS), "x holds int64; give floating point"),
            ((X * torch.inf, LABELS), "x is not finite"),
            ((X[:, :2], LABELS), r"cannot run on x of shape \(2, 2\)"),
            ((X, LABELS + 2), r"labels must lie in 0\.\.1"),
            ((X, X), "target has shape"),
        ],
    )
    def test_data_that_cannot_be_used(self, small: Any, data: Any, says: str) -> None:
        with pytest.raises(InputError, match=says):
            neurobench_metrics(small, data)

    def test_batches_of_nothing(self, small: Any) -> None:
        with pytest.raises(InputError, match="batch_size is 0"):
            neurobench_metrics(small, (X, LABELS), batch_size=0)

    def test_a_diverged_module(self, small: Any) -> None:
        with torch.no_grad():
            small[0].bias.fill_(torch.inf)
        with pytest.raises(InputError, match="outputs are not finite"):
            neurobench_metrics(small, (X, LABELS))


class TestModule:
    @pytest.mark.parametrize("data", [(X, LABELS), (X[:, :2], LABELS), (X, LABELS + 2)])
    def test_it_is_left_as_it_was(self, small: Any, data: Pair) -> None:
        small.insert(2, nn.Dropout(0.5))
        small.train()
        small[0].eval()
        graphs: list[bool] = []
        own = small[1].register_forward_hook(lambda _, __, out: graphs.append(out.requires_grad))
        before = copy.deepcopy(small.state_dict())
        wrong = data[0].shape != X.shape or data[1] is not LABELS
        with pytest.raises(InputError) if wrong else warnings.catch_warnings():
            neurobench_metrics(small, data)
        assert [m.training for m in small.modules()] == [True, False, True, True, True]
        own.remove()
        assert not any(graphs)
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in small.modules())
        assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())
        assert all(p.grad is None and p.requires_grad for p in small.parameters())

    def test_it_is_left_as_it_was_when_the_data_raise(self, small: Any) -> None:
        def broken() -> Iterator[Pair]:
            yield X, LABELS
            raise KeyError("the disk is gone")

        with pytest.raises(KeyError):
            neurobench_metrics(small, broken())
        assert all(m.training for m in small.modules())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in small.modules())

    def test_dropout_is_off(self, small: Any) -> None:
        before = neurobench_metrics(small, (X, LABELS))
        small.insert(2, nn.Dropout(1.0))
        assert neurobench_metrics(small, (X, LABELS)) == before

    def test_what_is_no_sequential(self) -> None:
        with pytest.raises(NetworkError, match=r"the module is a Linear.*give an nn\.Sequential"):
            neurobench_metrics(nn.Linear(3, 2), (X, LABELS))  # type: ignore[arg-type]

    def test_recurrent_layers(self) -> None:
        with pytest.raises(NetworkError, match=r"'0' \(RNNCell\) is recurrent"):
            neurobench_metrics(nn.Sequential(nn.RNNCell(3, 2)), (X, LABELS))

    @pytest.mark.parametrize(
        "change", [lambda m: prune.random_unstructured(m, "weight", 2), nn.utils.parametrizations.weight_norm]
    )
    def test_weights_worked_out_at_each_pass(self, small: Any, change: Callable[[nn.Module], object]) -> None:
        change(small[0])
        with pytest.raises(NetworkError, match=r"'0' \(\w*Linear\) works its weight out anew"):
            neurobench_metrics(small, (X, LABELS))

    def test_pruned_for_good(self, small: Any) -> None:
        prune.random_unstructured(small[0], "weight", 6)
        prune.remove(small[0], "weight")
        assert neurobench_metrics(small, (X, LABELS))["ConnectionSparsity"] == 0.7


def case(shape: tuple[int, ...], *layers: nn.Module, binary: bool = False) -> tuple[nn.Sequential, Pair]:
    """A net with some weights at zero, and 50 samples like digits: many zeros, and grey values in 0 .. 1."""
    module = nn.Sequential(*layers)
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.Conv1d):
            with torch.no_grad():
                layer.weight[torch.rand_like(layer.weight) < 0.2] = 0
    x = torch.rand(50, *shape).sub(0.5).relu().mul(32).round().div(16)
    return module, (x.ceil() if binary else x, torch.randint(10, (50,)))


def conv() -> tuple[nn.Module, ...]:
    return (
        *(nn.Conv2d(1, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=2, groups=2, bias=False)),
        *(nn.Hardsigmoid(), nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(72, 10)),
    )


CASES: dict[str, Callable[[], tuple[nn.Sequential, Pair]]] = {
    "dense, ReLU": lambda: case((64,), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)),
    "dense, Sigmoid": lambda: case((64,), nn.Linear(64, 32), nn.Sigmoid(), nn.Linear(32, 10, bias=False)),
    "dense, Hardsigmoid": lambda: case((64,), nn.Linear(64, 32), nn.Hardsigmoid(), nn.Linear(32, 10)),
    "binary inputs": lambda: case((64,), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10), binary=True),
    "outputs with a ReLU": lambda: case((64,), nn.Dropout(0.5), nn.Linear(64, 10), nn.ReLU()),
    "nested": lambda: case(
        (64,), nn.Sequential(nn.Linear(64, 32), nn.ReLU()), nn.Sequential(nn.Linear(32, 10), nn.ReLU())
    ),
    "convolution": lambda: case((1, 8, 8), *conv()),
    "convolution, binary inputs": lambda: case((1, 8, 8), *conv(), binary=True),
    "circular padding": lambda: case(
        (1, 64), nn.Conv1d(1, 4, 5, padding=3, padding_mode="circular"), nn.ReLU(), nn.Flatten(), nn.Linear(264, 10)
    ),
    "normalised": lambda: case((64,), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10)),
}


def package_metrics(module: nn.Sequential, loader: DataLoader[Any]) -> dict[str, Any]:
    """What the neurobench package reports, all its metrics of this kind in one run."""
    reason = "the neurobench package is not installed: pip install 'mep-neuro[neurobench]'"
    benchmarks = pytest.importorskip("neurobench.benchmarks", reason=reason)
    models = pytest.importorskip("neurobench.models", reason=reason)
    static = pytest.importorskip("neurobench.metrics.static", reason=reason)
    workload = pytest.importorskip("neurobench.metrics.workload", reason=reason)
    benchmark = benchmarks.Benchmark(
        models.TorchModel(module),
        loader,
        [],
        [lambda outputs: outputs.argmax(1)],
        [
            [static.Footprint, static.ConnectionSparsity, static.ParameterCount],
            [
                workload.ClassificationAccuracy,
                workload.ActivationSparsity,
                workload.ActivationSparsityByLayer,
                workload.MembraneUpdates,
                workload.NeuronOperations,
                workload.SynapticOperations,
            ],
        ],
    )
    results: dict[str, Any] = benchmark.run(quiet=True)
    return results


@pytest.mark.parametrize("name", CASES)
def test_equal_to_the_package(name: str) -> None:
    torch.manual_seed(1)
    module, data = CASES[name]()
    loader = DataLoader(TensorDataset(*data), batch_size=16)
    theirs = package_metrics(copy.deepcopy(module), loader)
    ours: dict[str, Any] = neurobench_metrics(module, loader)
    assert list(ours) == list(theirs)
    for metric, value in theirs.items():
        exact = metric in ("Footprint", "ParameterCount", "ConnectionSparsity", "SynapticOperations")
        assert ours[metric] == (value if exact else pytest.approx(value, rel=0, abs=1e-6)), metric
        assert type(ours[metric]) is type(value), metric
