"""Backends by name, through the entry-point group `mep_neuro.backends`: ours and strangers' alike."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from mep_neuro.backend import Backend
from mep_neuro.errors import BackendNotFound, BackendUnavailable, CapabilityError, OptionError, did_you_mean
from mep_neuro.network import EnergyNetwork

GROUP = "mep_neuro.backends"


def backend_names() -> tuple[str, ...]:
    """Names of all installed backends, whether they run here or not."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


def backend_class(name: str) -> type[Backend]:
    """The backend's class. Raises `BackendNotFound`, or `BackendUnavailable` where its import fails."""
    point = _entry_point(name)
    try:
        found = point.load()
    except ImportError as error:
        raise BackendUnavailable(f"backend {name!r} cannot be imported: {error}; {_reinstall(point)}") from error
    if not (isinstance(found, type) and issubclass(found, Backend)):
        raise BackendUnavailable(f"backend {name!r} ({point.value}) is no mep_neuro.Backend: tell its author")
    return found


def backend(name: str, network: EnergyNetwork, *, seed: int = 0, **options: Any) -> Backend:
    """Open a substrate by name on a network; use it as a context manager, or close it.

    name:    one of `backend_names()`.
    seed:    of all the substrate's randomness.
    options: the backend's own, e.g. `solver`, `max_steps` and `tolerance` on the digital ones.

    Raises `BackendNotFound`, `BackendUnavailable` with the cure, `OptionError` for an option that it does not have,
    `CapabilityError` for a network that it cannot hold. Nothing falls back to another backend.
    """
    kind = backend_class(name)
    availability = kind.availability()
    if not availability:
        raise BackendUnavailable(f"backend {name!r} cannot run here: {availability.reason}; {availability.cure}")
    check_options(name, kind, options)
    _check_holds(name, kind, network)
    return kind(network, seed=seed, **options)


def check_options(name: str, kind: type[Backend], options: Iterable[str]) -> None:
    """Raise `OptionError`, with the nearest, for an option that the backend does not have."""
    known = [p for p in inspect.signature(kind.__init__).parameters if p not in ("self", "network", "seed")]
    for option in options:
        if option not in known:
            raise OptionError(
                f"backend {name!r} has no option {option!r}; it has: {', '.join(known) or 'none'}."
                f"{did_you_mean(option, known)}"
            )


def _check_holds(name: str, kind: type[Backend], network: EnergyNetwork) -> None:
    held = kind.capabilities
    if network.energy_name not in held.energies:
        raise CapabilityError(
            f"backend {name!r} does not hold the energy {network.energy_name!r}; it holds: "
            f"{', '.join(sorted(held.energies))}"
        )
    for coupling in network.couplings:
        for operation in coupling.operations:
            if type(operation).__name__ not in held.couplings:
                raise CapabilityError(
                    f"backend {name!r} cannot hold module {operation.name!r} ({type(operation).__name__}); "
                    f"it holds: {', '.join(sorted(held.couplings))}"
                )
    for index, population in enumerate(network.populations, 1):
        if type(population.activation).__name__ not in held.activations:
            raise CapabilityError(
                f"backend {name!r} cannot hold the activation of population {index} ({population.activation}); "
                f"it holds: {', '.join(sorted(held.activations))}"
            )


def _entry_point(name: str) -> EntryPoint:
    points = [point for point in entry_points(group=GROUP) if point.name == name]
    if not points:
        names = backend_names()
        raise BackendNotFound(
            f"no backend {name!r}; installed: {', '.join(names) or 'none'}.{did_you_mean(name, names)}"
        )
    values = {point.value: point for point in points}
    if len(values) > 1:
        owners = ", ".join(sorted(f"{p.dist.name if p.dist else '?'} ({p.value})" for p in values.values()))
        raise BackendNotFound(f"two distributions offer a backend {name!r}: {owners}; uninstall one")
    return points[0]


def _reinstall(point: EntryPoint) -> str:
    return f"pip install --force-reinstall {point.dist.name}" if point.dist else "install it again"
