"""Units of prices, by pint, at the edge only: everything inside is SI floats (J, W, s; J or s a byte)."""

from __future__ import annotations

from functools import cache
from typing import Any

from mep_neuro.errors import InputError

DEFINITIONS = (
    "femto- = 1e-15 = f-",
    "pico- = 1e-12 = p-",
    "nano- = 1e-9 = n-",
    "micro- = 1e-6 = u- = µ-",
    "milli- = 1e-3 = m-",
    "atto- = 1e-18 = a-",
    "zepto- = 1e-21 = z-",
    "kilo- = 1e3 = k-",
    "second = [time] = s",
    "joule = [energy] = J",
    "bit = [information]",
    "watt = joule / second = W",
    "byte = 8 * bit = B",
)
"""All that a price is made of. Bits have a dimension, so that joules are never taken for joules a byte."""


@cache
def _registry() -> Any:
    from pint import UnitRegistry

    registry: Any = UnitRegistry(None)  # strict mypy finds pint's own class hard to build
    registry.load_definitions(list(DEFINITIONS))
    return registry


@cache
def factor(unit: str, wanted: str) -> float:
    """What a value in `unit` is multiplied with to be in `wanted`, an SI unit such as "J" or "J/byte".

    >>> factor("pJ/bit", "J/byte")
    8e-12

    Raises `InputError` for what is no unit, or is one of another dimension.
    """
    registry = _registry()
    try:
        one = registry.parse_units(unit)
        found = registry.convert(1.0, one, registry.parse_units(wanted))
    except Exception as error:  # pint's parser also lets assertions and its tokenizer's errors through
        raise InputError(
            f"unit {unit!r} does not give {wanted}: write one like {_example(wanted)} ({_plain(error)})"
        ) from error
    return float(f"{found:.15g}")  # 8e-12, not 7.999999999999999e-12


def _example(wanted: str) -> str:
    return {"J": "'pJ'", "J/byte": "'pJ/byte' or 'pJ/bit'", "W": "'mW'", "s": "'us'", "s/byte": "'ps/byte'"}[wanted]


def _plain(error: Exception) -> str:
    return " ".join(str(error).split())
