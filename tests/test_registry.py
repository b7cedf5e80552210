"""Backends by name, and what is said when a name, an option or a network does not fit."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest
from torch import nn

import mep_neuro as mep
from mep_neuro import registry
from mep_neuro.errors import BackendNotFound, BackendUnavailable, CapabilityError, OptionError


def network(*layers: nn.Module, energy: str = "hopfield") -> mep.EnergyNetwork:
    return mep.EnergyNetwork.from_module(nn.Sequential(nn.Linear(2, 2), *layers), energy=energy)


def installed(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    points = [EntryPoint(name, value, registry.GROUP) for name, value in values.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)


def test_ours_are_found_by_name() -> None:
    assert {"cuda", "reference", "torch"} <= set(mep.backend_names())
    with mep.backend("torch", network(), seed=1) as substrate:
        assert isinstance(substrate, mep.Backend)


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(
        BackendNotFound, match=r"no backend 'referense'; installed: .*torch.* Did you mean 'reference'\?"
    ):
        mep.backend("referense", network())


def test_an_unknown_option_offers_the_nearest() -> None:
    with pytest.raises(OptionError, match=r"no option 'max_step'; it has: .*Did you mean 'max_steps'"):
        mep.backend("reference", network(), max_step=3)


def test_a_broken_import_names_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, acme="acme_ep_chip_not_there:AcmeBackend")
    with pytest.raises(BackendUnavailable, match="'acme' cannot be imported: No module named 'acme_ep_chip_not_there'"):
        mep.backend("acme", network())


def test_what_is_no_backend_is_said_to_be_none(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, acme="collections:Counter")
    with pytest.raises(BackendUnavailable, match=r"is no mep_neuro.Backend"):
        mep.backend("acme", network())


def test_two_of_one_name_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("acme", f"{owner}:Backend", registry.GROUP) for owner in ("one", "two")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    with pytest.raises(BackendNotFound, match=r"two distributions offer a backend 'acme'.*one:Backend.*two:Backend"):
        mep.backend("acme", network())


@pytest.mark.parametrize(
    ("lacks", "made", "message"),
    [
        ({"energies": frozenset({"hopfield"})}, {"energy": "prediction_error"}, "energy 'prediction_error'"),
        ({"couplings": frozenset({"Conv2d"})}, {}, r"module '0' \(Dense\)"),
        ({"activations": frozenset({"Logistic"})}, {}, "activation of population 1"),
    ],
)
def test_a_network_that_it_cannot_hold_is_refused(
    monkeypatch: pytest.MonkeyPatch, lacks: dict[str, Any], made: dict[str, Any], message: str
) -> None:
    kind = registry.backend_class("torch")
    monkeypatch.setattr(kind, "capabilities", mep.Capabilities(**{"energies": frozenset({"hopfield"}), **lacks}))
    with pytest.raises(CapabilityError, match=message):
        mep.backend("torch", network(**made))
