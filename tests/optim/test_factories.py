"""The six factories: every argument counts, nonsense is refused, and none is what the ancestor's turned out to be."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import mep_neuro as mep
from mep_neuro.errors import InputError, OptionError

X = torch.rand(10, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
Y = X[:, :3].argmax(1)

Factory = Callable[..., mep.CompositeOptimizer]

FACTORIES: dict[str, Factory] = {
    f.__name__: f for f in (mep.smep, mep.smep_fast, mep.sdmep, mep.local_ep, mep.natural_ep, mep.muon_backprop)
}


def module(activation: type[nn.Module] = nn.Hardsigmoid) -> nn.Sequential:
    torch.manual_seed(1)
    layers = nn.Linear(6, 8), activation(), nn.Linear(8, 7), activation(), nn.Linear(7, 3)
    return nn.Sequential(*layers).double()


def train(optimizer: mep.CompositeOptimizer, model: nn.Sequential, steps: int = 1) -> None:
    for _ in range(steps):
        if isinstance(optimizer.gradient, mep.EPGradient):
            optimizer.step(x=X, target=Y)
        else:
            optimizer.zero_grad()
            (0.5 * (model(X) - nn.functional.one_hot(Y, 3)).square().sum(1)).mean().backward()
            optimizer.step()


def values(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def trained(name: str, steps: int = 3, **options: Any) -> list[Tensor]:
    model = module()
    given = {key: value(model) if callable(value) else value for key, value in options.items()}
    train(FACTORIES[name](model.parameters(), model, **given), model, steps)
    return values(model)


def apart(a: list[Tensor], b: list[Tensor]) -> float:
    return max(float((p - q).abs().max()) for p, q in zip(a, b, strict=True))


def arguments(name: str) -> dict[str, Any]:
    """What a factory takes, with its defaults; `smep_fast` takes all of `smep`'s."""
    own = dict(inspect.signature(FACTORIES[name]).parameters)
    if any(p.kind is p.VAR_KEYWORD for p in own.values()):
        own = {**inspect.signature(mep.smep).parameters, **own}
    left_out = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return {key: p.default for key, p in own.items() if p.kind not in left_out}


class Change(NamedTuple):
    """Another value for an argument, and what else must be set for it to count."""

    value: Any
    beside: dict[str, Any] = {}  # noqa: RUF012  # never changed


def open_substrate(model: nn.Sequential) -> mep.Backend:
    return mep.backend("torch", mep.EnergyNetwork.from_module(model), max_steps=2)


CHANGES: dict[str, Change] = {
    "mode": Change("backprop"),
    "lr": Change(0.03),
    "momentum": Change(0.3),
    "weight_decay": Change(0.1),
    "ns_steps": Change(3),
    "gamma": Change(0.2),
    "use_error_feedback": Change("the other"),
    "error_beta": Change(0.4, {"use_error_feedback": True}),
    "max_grad_norm": Change(1e-3),
    "rank_frac": Change(0.9, {"dion_thresh": 0}),
    "dion_thresh": Change(0),
    "beta": Change(0.2),
    "settle_steps": Change(2),
    "settle_lr": Change(0.3),
    "loss_type": Change("the other"),
    "energy": Change("prediction_error"),
    "nudging": Change("one_sided"),
    "backend": Change(open_substrate),
    "seed": Change(1, {"nudging": "random_sign"}),
    "fisher_damping": Change(0.1),
    "fisher_decay": Change(0.5),
    "use_diagonal_fisher": Change(True),
}


@pytest.mark.parametrize(("name", "argument"), [(name, a) for name in FACTORIES for a in arguments(name)])
def test_every_argument_changes_the_step(name: str, argument: str) -> None:
    change, default = CHANGES[argument], arguments(name)[argument]
    value = change.value
    if argument == "use_error_feedback":
        value = not default
    elif argument == "loss_type":
        value = "mse" if name == "sdmep" else "cross_entropy"
    assert value != default
    base = trained(name, **change.beside)
    assert apart(base, trained(name, **change.beside)) == 0
    assert apart(base, trained(name, **change.beside, **{argument: value})) > 1e-7


def test_no_entry_is_left_over() -> None:
    assert set(CHANGES) == {a for name in FACTORIES for a in arguments(name)}


@pytest.mark.parametrize("name", FACTORIES)
def test_the_defaults_are_what_is_documented(name: str) -> None:
    """An argument given the value that the docstring names for it changes nothing."""
    documented = {
        "smep": {"beta": 0.5, "settle_steps": 30, "loss_type": "mse"},
        "smep_fast": {"beta": 0.5, "settle_steps": 10, "loss_type": "mse"},
        "sdmep": {"beta": 0.3, "settle_steps": 15, "loss_type": "cross_entropy"},
        "local_ep": {"beta": 0.1, "settle_steps": 20, "loss_type": "mse"},
        "natural_ep": {"beta": 0.5, "settle_steps": 20, "loss_type": "mse"},
        "muon_backprop": {},
    }[name]
    if documented:
        documented |= {"nudging": "centered", "backend": "torch", "seed": 0}
    if "energy" in arguments(name):
        documented["energy"] = "hopfield"
    assert apart(trained(name), trained(name, **documented)) == 0


@pytest.mark.parametrize("name", FACTORIES)
def test_unknown_arguments_are_errors(name: str) -> None:
    model = module()
    with pytest.raises(TypeError, match="settle_stepz"):
        FACTORIES[name](model.parameters(), model, settle_stepz=3)


EP_ONLY = {
    "beta": 0.5,
    "settle_steps": 30,
    "settle_lr": 0.15,
    "loss_type": "mse",
    "energy": "hopfield",
    "nudging": "centered",
    "backend": "torch",
    "seed": 0,
}


@pytest.mark.parametrize("name", ["smep", "smep_fast", "sdmep"])
@pytest.mark.parametrize("argument", EP_ONLY)
def test_what_belongs_to_ep_is_refused_in_mode_backprop(name: str, argument: str) -> None:
    model = module()
    with pytest.raises(OptionError, match=f"{argument} belong to mode='ep', and the mode is 'backprop'"):
        FACTORIES[name](model.parameters(), model, mode="backprop", **{argument: EP_ONLY[argument]})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("smep", {"mode": "backdrop"}, "mode is 'backdrop'.*Did you mean 'backprop'"),
        ("smep_fast", {"mode": "backdrop"}, "mode is 'backdrop'.*Did you mean 'backprop'"),
        ("smep", {"loss_type": "cross_entropi"}, "loss_type is 'cross_entropi'.*Did you mean 'cross_entropy'"),
        ("smep", {"loss_type": ""}, "loss_type is ''"),
        ("smep", {"nudging": "centred"}, "Did you mean 'centered'"),
        ("smep", {"energy": "hopfeld"}, "Did you mean 'hopfield'"),
        ("smep", {"lr": -0.1}, "lr is -0.1; it must be 0 or above"),
        ("smep", {"lr": float("nan")}, "lr is nan"),
        ("local_ep", {"lr": float("inf")}, "lr is inf"),
        ("smep", {"weight_decay": -0.1}, "weight_decay is -0.1"),
        ("natural_ep", {"momentum": 1.0}, "momentum is 1.0"),
        ("smep", {"momentum": -0.1}, "momentum is -0.1"),
        ("smep", {"max_grad_norm": 0.0}, "max_grad_norm is 0.0"),
        ("muon_backprop", {"max_grad_norm": -1.0}, "max_grad_norm is -1.0"),
        ("natural_ep", {"max_grad_norm": float("nan")}, "max_grad_norm is nan"),
        ("smep", {"ns_steps": 0}, "ns_steps is 0"),
        ("smep", {"gamma": 0.0}, "gamma is 0.0"),
        ("smep", {"use_error_feedback": True, "error_beta": 0.0}, "error feedback is 0.0"),
        ("sdmep", {"error_beta": 1.5}, "error feedback is 1.5"),
        ("sdmep", {"rank_frac": 0.0}, "rank_frac is 0.0"),
        ("sdmep", {"dion_thresh": -1}, "dion_thresh is -1"),
        ("smep", {"settle_lr": 0.0}, "step_size is 0.0"),
        ("smep", {"settle_steps": 0}, "0"),
    ],
)
def test_values_that_make_no_sense_are_errors(name: str, options: dict[str, Any], message: str) -> None:
    model = module()
    with pytest.raises(OptionError, match=message):
        FACTORIES[name](model.parameters(), model, **options)


@pytest.mark.parametrize("beta", [0.0, -0.5, 1.0])
def test_a_nudge_without_a_minimum_is_refused(beta: float) -> None:
    model = module()
    with pytest.raises(InputError, match=f"beta is {beta}"):
        mep.smep(model.parameters(), model, beta=beta)


def test_a_bound_needs_the_model() -> None:
    model = module()
    with pytest.raises(OptionError, match="give the model as well"):
        mep.muon_backprop(model.parameters(), gamma=0.9)
    mep.muon_backprop(model.parameters(), model, gamma=0.9)


def test_the_read_out_is_muons_where_the_model_is_not_given() -> None:
    after = []
    for given in (False, True):
        model = module()
        train(mep.muon_backprop(model.parameters(), model if given else None), model)
        after.append(values(model))
    differ = [not torch.equal(p, q) for p, q in zip(*after, strict=True)]
    assert differ == [False, False, False, False, True, False]


def test_all_six_are_different() -> None:
    after = {name: trained(name, lr=0.01, momentum=0.9, weight_decay=0.0) for name in FACTORIES}
    for one in FACTORIES:
        for other in FACTORIES:
            assert one == other or apart(after[one], after[other]) > 1e-7, (one, other)


def test_smep_fast_is_smep_with_fewer_steps() -> None:
    assert apart(trained("smep_fast"), trained("smep", settle_steps=10)) == 0
    assert apart(trained("smep_fast", settle_steps=30), trained("smep")) == 0
    for shared in ({"mode": "backprop"}, {"backend": open_substrate}):
        assert apart(trained("smep_fast", **shared), trained("smep", **shared)) == 0


def leading(matrix: Tensor) -> Tensor:
    """The three leading singular values: three outputs leave these gradients no more."""
    return torch.linalg.svdvals(matrix)[:3]


@pytest.mark.parametrize("name", ["smep", "muon_backprop", "local_ep"])
def test_muon_moves_all_directions_alike_and_is_not_sgd(name: str) -> None:
    """The ancestor's `smep` and `muon_backprop` were SGD: the update was the gradient times the rate."""
    model = module()
    before = model[0].weight.detach().clone()
    train(FACTORIES[name](model.parameters(), model, lr=0.01, weight_decay=0.0), model)
    moved, gradient = before - model[0].weight.detach(), model[0].weight.grad
    assert gradient is not None
    steep = leading(gradient)
    assert steep[0] > 3 * steep[2]
    if name == "local_ep":
        torch.testing.assert_close(moved, 0.01 * gradient)
    else:
        flat = leading(moved) / (0.01 * (8 / 6) ** 0.5)
        assert float(flat.min()) > 0.65
        assert float(flat.max()) < 1.25


@pytest.mark.parametrize(("narrow", "near"), [(True, 2e-2), (False, 1e-5)])
@pytest.mark.parametrize("shape", [(32, 48), (48, 32)])
def test_muon_backprop_is_torchs_muon(
    shape: tuple[int, int], narrow: bool, near: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's own iterates in bfloat16, which moves its result by 1 to 2 percent; in float32 the two are one."""
    if not narrow:
        monkeypatch.setattr(Tensor, "bfloat16", Tensor.float)
    start = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "ns_steps": 5}
    pairs = [(ours, mep.muon_backprop([ours], **options)), (theirs, torch.optim.Muon([theirs], **options))]
    sgd = nn.Parameter(start.clone())
    pairs.append((sgd, torch.optim.SGD([sgd], lr=0.1, momentum=0.9)))
    for step in range(3):
        before = [p.detach().clone() for p, _ in pairs]
        for p, optimizer in pairs:
            p.grad = torch.randn(shape, generator=torch.Generator().manual_seed(step + 1))
            optimizer.step()
        one, two, three = (p.detach() - old for (p, _), old in zip(pairs, before, strict=True))
        assert (one - two).norm() < near * two.norm()
        assert (one - three).norm() > 0.5 * two.norm()


@pytest.mark.parametrize("name", ["smep", "sdmep"])
def test_error_feedback_is_read(name: str) -> None:
    """The ancestor kept a buffer that nothing read."""
    after = []
    for forgets in (False, True):
        model = module()
        optimizer = FACTORIES[name](model.parameters(), model, use_error_feedback=True)
        train(optimizer, model, 2)
        kept = [state["error"] for state in optimizer.state.values() if "error" in state]
        assert len(kept) == 2  # the two matrices that are not the read-out
        assert all(float(error.abs().max()) > 0 for error in kept)
        if forgets:
            for error in kept:
                error.zero_()
        train(optimizer, model)
        after.append(values(model))
    assert [not torch.equal(p, q) for p, q in zip(*after, strict=True)] == [True, False, True, False, False, False]


def test_smep_holds_its_bound_on_every_coupling_after_the_first() -> None:
    model = module()
    with torch.no_grad():
        for layer in (model[0], model[2], model[4]):
            layer.weight.mul_(5)
    train(mep.smep(model.parameters(), model, gamma=0.7), model)
    first, *later = (float(torch.linalg.matrix_norm(model[i].weight.detach(), 2)) for i in (0, 2, 4))
    assert first > 1
    assert all(0.69 < sigma <= 0.7 for sigma in later)


def test_smep_learns_with_relu_and_the_quick_starts_arguments() -> None:
    model = module(nn.ReLU)
    optimizer = mep.smep(
        model.parameters(),
        model=model,
        mode="ep",
        lr=0.01,
        beta=0.5,
        settle_steps=30,
        settle_lr=0.15,
        loss_type="mse",
        use_error_feedback=False,
        backend="torch",
    )
    losses = [float(optimizer.step(x=X, target=Y)) for _ in range(60)]
    assert losses[-1] < 0.6 * losses[0]
