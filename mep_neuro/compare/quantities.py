"""Numbers and names in words: three significant digits, an SI prefix, the unit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

SPACE = "\N{NO-BREAK SPACE}"
PREFIXES = dict(
    zip(
        range(-30, 31, 3),
        ["q", "r", "y", "z", "a", "f", "p", "n", "µ", "m", "", "k", "M", "G", "T", "P", "E", "Z", "Y", "R", "Q"],
        strict=True,
    )
)


def quantity(value: float, unit: str) -> str:
    """A value in an SI unit.

    >>> quantity(8.0797e-7, "J").replace(SPACE, " ")
    '808 nJ'
    >>> quantity(9.9999e-7, "J").replace(SPACE, " ")
    '1.00 µJ'
    """
    power = _power(value)
    return f"{number(value / 10.0**power)}{SPACE}{PREFIXES[power]}{unit}"


def number(value: float) -> str:
    """A value without a unit.

    >>> number(8.0195), number(24.92), number(1234.5), number(0.95)
    ('8.02', '24.9', '1,230', '0.950')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    exponent = _exponent(value)
    if not -3 <= exponent < 6:
        return f"{value:.2e}"
    rounded = round(value, 2 - exponent)
    return f"{rounded:,.{max(2 - exponent, 0)}f}"


def count(value: float) -> str:
    """How many: whole, with thousands apart, where it is whole."""
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else number(value)


def interval(estimate: Mapping[str, float], unit: str = "") -> str:
    """From the 5th to the 95th percentile, in the prefix of the median.

    >>> interval({"p5": 1.99e-10, "p50": 2.05e-9, "p95": 1.99e-8}, "J").replace(SPACE, " ")
    '[0.199, 19.9] nJ'
    """
    if not unit:
        return f"[{number(estimate['p5'])}, {number(estimate['p95'])}]"
    power = _power(estimate["p50"])
    low, high = (number(estimate[key] / 10.0**power).replace(",", "") for key in ("p5", "p95"))
    return f"[{low}, {high}]{SPACE}{PREFIXES[power]}{unit}"


def cost(account: Mapping[str, Any]) -> str:
    """An account's median in joules a sample; ">=" before a lower bound."""
    bound = f">={SPACE}" if account["lower_bound"] else ""
    return f"{bound}{quantity(account['joules_per_sample']['p50'], 'J')}"


def percent(share: float | None) -> str:
    """A share in percent, to a hundredth of one; what is not known is said."""
    return "not known" if share is None else f"{100 * share:.2f}{SPACE}%"


def words(name: str) -> str:
    """An operation, or a figure of a profile, in words.

    >>> words("prices.neuron_updates")
    'price of neuron updates'
    """
    table, dot, item = name.partition(".")
    tables = {"prices": "price of ", "times": "time of ", "static": "static power of "}
    return f"{tables[table]}{item.replace('_', ' ')}" if dot and table in tables else name.replace("_", " ")


def _power(value: float) -> int:
    """The power of ten of the prefix."""
    if value == 0 or not math.isfinite(value):
        return 0
    return min(max(_exponent(value) // 3 * 3, -30), 30)


def _exponent(value: float) -> int:
    """The power of ten of a value rounded to three digits."""
    return int(f"{value:.2e}".partition("e")[2])
