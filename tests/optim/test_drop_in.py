"""The factories as people of PyTorch use them: the ancestor's README, autocast, compile, Dropout, large weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import mep_neuro as mep
from mep_neuro.data import load

EP = (mep.smep, mep.smep_fast, mep.sdmep, mep.local_ep, mep.natural_ep)


def digits(samples: int = 512) -> tuple[Tensor, Tensor]:
    data = load("digits")
    return data.x_train[:samples], data.y_train[:samples]


def module(*beside: nn.Module, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), *beside, nn.Linear(32, 10))


def test_the_ancestors_quick_start_runs_and_learns() -> None:
    """Its README's loop, with `from mep_neuro import smep` for `from mep import smep`, on digits."""
    from mep_neuro import smep

    train_loader = DataLoader(TensorDataset(*digits()), batch_size=32)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
    optimizer = smep(model.parameters(), model=model, mode="ep")
    for _ in range(3):
        for x, y in train_loader:
            optimizer.step(x=x, target=y)
    x, y = digits()
    assert float((optimizer.gradient.learner.predict(x).argmax(1) == y).float().mean()) > 0.95
    assert float((model(x).argmax(1) == y).float().mean()) > 0.9  # the model itself is what was trained


def test_the_ancestors_backprop_mode_runs_and_learns() -> None:
    x, y = digits()
    for optimizer, model in (
        (mep.smep(m.parameters(), model=m, mode="backprop"), m) for m in (module(), module(seed=1))
    ):
        for _ in range(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        assert float((model(x).argmax(1) == y).float().mean()) > 0.8


@pytest.mark.parametrize("factory", EP)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_autocast_learns_and_keeps_the_parameters_as_they_are(factory: Any, device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    x, y = (part.to(device) for part in digits(128))
    found = []
    for dtype in (None, torch.bfloat16):
        model = module().to(device)
        optimizer = factory(model.parameters(), model, backend="torch" if device == "cpu" else "cuda", lr=0.01)
        with torch.autocast(device, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            losses = [float(optimizer.step(x=x, target=y)) for _ in range(25)]
        assert losses[-1] < 0.85 * losses[0]
        assert all(p.dtype is torch.float32 and bool(torch.isfinite(p).all()) for p in model.parameters())
        found.append(losses)
    assert found[0] != found[1]  # it was really rounded
    assert abs(found[0][-1] - found[1][-1]) < 0.1 * found[0][0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_compiled_substrate_takes_the_same_steps() -> None:
    x, y = digits(64)
    ends = []
    for compiled in (False, True):
        torch._dynamo.reset()  # what another test compiled would be taken again
        torch._dynamo.utils.counters.clear()
        model = module()
        substrate = mep.backend("torch", mep.EnergyNetwork.from_module(model), compile=compiled)
        optimizer = mep.smep(model.parameters(), model, backend=substrate)
        for _ in range(3):
            optimizer.step(x=x, target=y)
        assert (torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0) is compiled
        ends.append([p.detach().clone() for p in model.parameters()])
    for p, q in zip(*ends, strict=True):
        torch.testing.assert_close(p, q, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("factory", [mep.smep, mep.sdmep, mep.local_ep])
def test_dropout_trains_and_is_off_in_eval(factory: Any) -> None:
    x, y = digits()
    model = module(nn.Dropout(0.2))
    optimizer = factory(model.parameters(), model, lr=0.01)
    model.train()
    for _ in range(4):
        for rows in torch.randperm(len(x), generator=torch.Generator().manual_seed(0)).split(32):
            optimizer.step(x=x[rows], target=y[rows])
    learner = optimizer.gradient.learner
    assert not torch.equal(learner.predict(x[:8]), learner.predict(x[:8]))  # a new mask each time
    twice = learner.predict(x[:1].repeat(8, 1))
    assert len(twice.unique(dim=0)) > 1  # and for each sample
    model.eval()
    assert torch.equal(learner.predict(x), learner.predict(x))
    assert float((learner.predict(x).argmax(1) == y).float().mean()) > 0.85


def test_large_weights_are_bounded_before_the_first_step_and_frozen_ones_are_not() -> None:
    x, y = digits(32)

    def large() -> nn.Sequential:
        model = module()
        with torch.no_grad():
            model[2].weight.mul_(6)
        return model

    free = large()
    with pytest.raises(mep.errors.SettlingError, match="bound the weights"):
        mep.smep(free.parameters(), free, gamma=None).step(x=x, target=y)

    model = large()
    before = model[2].weight.detach().clone()
    optimizer = mep.smep(model.parameters(), model)
    sigma = float(torch.linalg.matrix_norm(model[2].weight.detach().double(), 2))
    assert 0.949 < sigma <= 0.95
    torch.testing.assert_close(model[2].weight.detach() / sigma, before / torch.linalg.matrix_norm(before, 2))
    losses = [float(optimizer.step(x=x, target=y)) for _ in range(10)]
    assert losses[-1] < losses[0]

    frozen = large()
    frozen[2].weight.requires_grad_(False)
    mep.smep(frozen.parameters(), frozen)
    assert torch.equal(frozen[2].weight, before)

    later = large()
    optimizer = mep.smep([later[0].weight], later)
    optimizer.add_param_group({"params": [later[2].weight]})
    assert float(torch.linalg.matrix_norm(later[2].weight.detach().double(), 2)) <= 0.95
