"""smep, smep_fast, sdmep, local_ep, natural_ep, muon_backprop: put together and ready to use.

| Factory | gradient | update | bound | feedback |
| --- | --- | --- | --- | --- |
| `smep` | EP | Muon | spectral | on request |
| `smep_fast` | EP, fewer steps | Muon | spectral | on request |
| `sdmep` | EP | Dion | spectral | yes |
| `local_ep` | EP | plain: each synapse by itself | none | none |
| `natural_ep` | EP | natural | none | none |
| `muon_backprop` | backprop | Muon | spectral, on request | none |
"""

from __future__ import annotations

from typing import Any

from mep_neuro.backend import Backend
from mep_neuro.nudging import Nudging
from mep_neuro.optim.composite import CompositeOptimizer, Groups
from mep_neuro.optim.dion import DionUpdate
from mep_neuro.optim.gradients import BackpropGradient
from mep_neuro.optim.muon import MuonUpdate
from mep_neuro.optim.natural import NaturalUpdate
from mep_neuro.optim.sources import Mode, Model, feedback_of, network_of, source_of
from mep_neuro.optim.spectral import SpectralConstraint
from mep_neuro.optim.update import PlainUpdate

STEPS = 30
FAST_STEPS = 10


def smep(
    params: Groups,
    model: Model,
    *,
    mode: Mode = "ep",
    lr: float = 0.01,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    ns_steps: int = 5,
    gamma: float | None = 0.95,
    use_error_feedback: bool = False,
    error_beta: float = 0.9,
    max_grad_norm: float | None = None,
    beta: float | None = None,
    settle_steps: int | None = None,
    settle_lr: float | None = None,
    loss_type: str | None = None,
    energy: str | None = None,
    nudging: Nudging | str | None = None,
    backend: str | Backend | None = None,
    seed: int | None = None,
) -> CompositeOptimizer:
    """Spectral Muon EP: EP's gradient on a substrate, orthogonalised by Muon, with every coupling after the first held
    to a spectral norm of at most gamma, so that settling contracts.

    params, model: what is trained, and the `nn.Sequential` that it belongs to.
    mode:          "ep": `step(x=, target=)`; "backprop": `loss.backward(); step()`, with the same update and bound.
    lr, momentum, weight_decay, ns_steps: of the update; param groups may have their own.
    gamma:         bound on the spectral norms, from the start; None sets none. With loss_type="cross_entropy"
                   it also bounds the logits, which stay flat: take a larger one, or none.
    use_error_feedback, error_beta: what orthogonalising leaves out of a gradient comes back with this share.
    max_grad_norm: scales the gradients down together where their norm is larger.

    With mode="ep" only (None stands for the default named here):

    beta:         strength of the nudge (0.5).
    settle_steps: steps of each phase (30).
    settle_lr:    share of the way to its minimum that a state goes at a step: the leaky flow. Left out, exact block
                  sweeps are made, which need fewer steps.
    loss_type:    "mse" (half the squared error) or "cross_entropy" ("mse").
    energy:       "hopfield" or "prediction_error" ("hopfield").
    nudging:      as in `EquilibriumPropagation` ("centered").
    backend:      a name, or an open substrate, which then has its own settling options ("torch").
    seed:         of the substrate's randomness (0).
    """
    given = {
        "beta": beta,
        "settle_steps": settle_steps,
        "settle_lr": settle_lr,
        "loss_type": loss_type,
        "energy": energy,
        "nudging": nudging,
        "backend": backend,
        "seed": seed,
    }
    return CompositeOptimizer(
        params,
        lr=lr,
        weight_decay=weight_decay,
        gradient=source_of(model, mode, given, beta=0.5, steps=STEPS),
        update=MuonUpdate(),
        constraint=None if gamma is None else SpectralConstraint(gamma),
        feedback=feedback_of(use_error_feedback, error_beta),
        max_grad_norm=max_grad_norm,
        momentum=momentum,
        ns_steps=ns_steps,
    )


def smep_fast(params: Groups, model: Model, *, settle_steps: int | None = None, **options: Any) -> CompositeOptimizer:
    """`smep` with 10 settling steps a phase in place of 30; all else as there."""
    fast = FAST_STEPS if options.get("mode", "ep") == "ep" and not isinstance(options.get("backend"), Backend) else None
    return smep(params, model, settle_steps=fast if settle_steps is None else settle_steps, **options)


def sdmep(
    params: Groups,
    model: Model,
    *,
    mode: Mode = "ep",
    lr: float = 0.01,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    rank_frac: float = 0.2,
    dion_thresh: int = 100_000,
    gamma: float | None = 0.95,
    use_error_feedback: bool = True,
    error_beta: float = 1.0,
    max_grad_norm: float | None = None,
    beta: float | None = None,
    settle_steps: int | None = None,
    settle_lr: float | None = None,
    loss_type: str | None = None,
    energy: str | None = None,
    nudging: Nudging | str | None = None,
    backend: str | Backend | None = None,
    seed: int | None = None,
) -> CompositeOptimizer:
    """Spectral Dion EP: as `smep`, but matrices of at least `dion_thresh` entries move along low-rank factors, a share
    `rank_frac` of their full rank, and what the low rank leaves out comes back with share `error_beta`.

    Smaller matrices are orthogonalised whole, as by Muon. All else as in `smep`; beta is 0.3, settle_steps 15 and
    loss_type "cross_entropy" where nothing is given.
    """
    given = {
        "beta": beta,
        "settle_steps": settle_steps,
        "settle_lr": settle_lr,
        "loss_type": loss_type,
        "energy": energy,
        "nudging": nudging,
        "backend": backend,
        "seed": seed,
    }
    return CompositeOptimizer(
        params,
        lr=lr,
        weight_decay=weight_decay,
        gradient=source_of(model, mode, given, beta=0.3, steps=15, loss_type="cross_entropy"),
        update=DionUpdate(),
        constraint=None if gamma is None else SpectralConstraint(gamma),
        feedback=feedback_of(use_error_feedback, error_beta),
        max_grad_norm=max_grad_norm,
        momentum=momentum,
        rank_frac=rank_frac,
        dion_thresh=dion_thresh,
    )


def local_ep(
    params: Groups,
    model: Model,
    *,
    lr: float = 0.02,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    beta: float | None = None,
    settle_steps: int | None = None,
    settle_lr: float | None = None,
    loss_type: str | None = None,
    energy: str | None = None,
    nudging: Nudging | str | None = None,
    backend: str | Backend | None = None,
    seed: int | None = None,
) -> CompositeOptimizer:
    """EP by a rule that a synapse can follow by itself: the contrast of its own two ends, with momentum, and nothing
    that is gathered over a layer or over the network (no orthogonalising, bound, or clipping). Biases and the read-out
    follow Adam, which is local as well.

    Arguments as in `smep`; beta is 0.1 and settle_steps 20 where nothing is given.
    """
    given = {
        "beta": beta,
        "settle_steps": settle_steps,
        "settle_lr": settle_lr,
        "loss_type": loss_type,
        "energy": energy,
        "nudging": nudging,
        "backend": backend,
        "seed": seed,
    }
    return CompositeOptimizer(
        params,
        lr=lr,
        weight_decay=weight_decay,
        gradient=source_of(model, "ep", given, beta=0.1, steps=20),
        update=PlainUpdate(),
        momentum=momentum,
    )


def natural_ep(
    params: Groups,
    model: Model,
    *,
    lr: float = 0.02,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    fisher_damping: float = 1e-3,
    fisher_decay: float = 0.95,
    use_diagonal_fisher: bool = False,
    max_grad_norm: float | None = None,
    beta: float | None = None,
    settle_steps: int | None = None,
    settle_lr: float | None = None,
    loss_type: str | None = None,
    nudging: Nudging | str | None = None,
    backend: str | Backend | None = None,
    seed: int | None = None,
) -> CompositeOptimizer:
    """EP with a natural gradient: Kronecker factors of the Fisher matrix from EP's own local statistics (see
    `NaturalUpdate`). For dense couplings of the Hopfield energy.

    Arguments as in `smep` and `NaturalUpdate`; beta is 0.5 and settle_steps 20 where nothing is given.
    """
    given = {
        "beta": beta,
        "settle_steps": settle_steps,
        "settle_lr": settle_lr,
        "loss_type": loss_type,
        "energy": None,
        "nudging": nudging,
        "backend": backend,
        "seed": seed,
    }
    return CompositeOptimizer(
        params,
        lr=lr,
        weight_decay=weight_decay,
        gradient=source_of(model, "ep", given, beta=0.5, steps=20, keep=True),
        update=NaturalUpdate(),
        max_grad_norm=max_grad_norm,
        momentum=momentum,
        fisher_damping=fisher_damping,
        fisher_decay=fisher_decay,
        use_diagonal_fisher=use_diagonal_fisher,
    )


def muon_backprop(
    params: Groups,
    model: Model | None = None,
    *,
    lr: float = 0.02,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    ns_steps: int = 5,
    gamma: float | None = None,
    max_grad_norm: float | None = None,
) -> CompositeOptimizer:
    """Muon after `loss.backward()`: matrices and kernels orthogonalised, all else, and the read-out where the model is
    given, by Adam. gamma bounds the spectral norms of every coupling after the first, and needs the model.
    """
    return CompositeOptimizer(
        params,
        lr=lr,
        weight_decay=weight_decay,
        gradient=BackpropGradient(None if model is None else network_of(model)),
        update=MuonUpdate(),
        constraint=None if gamma is None else SpectralConstraint(gamma),
        max_grad_norm=max_grad_norm,
        momentum=momentum,
        ns_steps=ns_steps,
    )
