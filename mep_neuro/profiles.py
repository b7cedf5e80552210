"""HardwareProfile: what an operation costs on a chip, each price with its unit, interval, kind and source."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from typing_extensions import Self

from mep_neuro.counts import BYTES, OPERATIONS, PHYSICAL, Operation
from mep_neuro.errors import InputError, ProfileError, did_you_mean
from mep_neuro.units import factor

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]  # mypy reads this branch on 3.11 too

Kind: TypeAlias = Literal["measured", "fitted", "simulated", "published", "datasheet", "assumed"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Kinds of prices, the strongest first."""

Class: TypeAlias = Literal["convention", "digital", "neuromorphic", "analog", "reference"]

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Table: TypeAlias = Literal["prices", "times", "static"]


class Price(BaseModel):
    """What one operation costs, the time that it takes, or a power drawn all the time: `value` in `unit`, between
    `low` and `high` (the 5th and the 95th percentile of what it may be), and where that comes from.

    kind:       how the figure came about, from measured down to assumed.
    scope:      marginal (what one more operation adds), static (drawn whether or not anything happens), or all_in
                (a chip's whole power over its event rate: static power is inside, and is never added to it).
    conditions: technology, voltage, precision, what is left out, and where the interval comes from.
    source:     DOI or address; `place` is the table, figure or file in it.
    verified:   whether the figure was read in the source or in a transcript of it, and not taken from memory.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    value: Amount
    unit: Text
    low: Amount
    high: Amount
    kind: Kind
    scope: Literal["marginal", "static", "all_in"]
    conditions: Text
    source: Text
    place: Text
    verified: bool

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"needs low <= value <= high, not {self.low}, {self.value}, {self.high}")
        if self.low == 0 < self.high:
            raise ValueError("low is 0: draws are spread over decades, so give the least that it can be")
        return self

    def si(self, wanted: str) -> tuple[float, float, float]:
        """(value, low, high) in an SI unit."""
        scale = factor(self.unit, wanted)
        return self.value * scale, self.low * scale, self.high * scale


class _Tables(BaseModel):
    """What a profile and each of its scenarios hold.

    prices:   joules an operation (a byte; a second, in watts, for what is counted in seconds), by operation.
    times:    seconds an operation or byte. They are resources that work side by side: in each phase the slowest one
              sets the pace.
    static:   watts drawn all the time, by what draws them.
    included: operations that cost nothing of their own here, each with the reason.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    prices: dict[Operation, Price] = Field(default_factory=dict)
    times: dict[Operation, Price] = Field(default_factory=dict)
    static: dict[Text, Price] = Field(default_factory=dict)
    included: dict[Operation, Text] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _units(self) -> Self:
        for table in get_args(Table):
            for key, price in getattr(self, table).items():
                if key == "dissipated_joules" or (table == "times" and key in PHYSICAL):
                    raise ValueError(f"{table}.{key}: it is counted in joules or seconds as it is: remove it")
                try:
                    price.si(wanted_unit(table, key))
                except InputError as error:
                    raise ValueError(f"{table}.{key}.unit: {error}") from error
                allowed = ("static",) if table == "static" else ("marginal", "all_in")[: 2 if table == "prices" else 1]
                if price.scope not in allowed:
                    raise ValueError(f"{table}.{key}.scope is {price.scope!r}; here it is {' or '.join(allowed)}")
        twice = sorted(set(self.prices) & set(self.included))
        if twice:
            raise ValueError(f"prices.{twice[0]} and included.{twice[0]} are both there: keep one of the two")
        return self


class Scenario(_Tables):
    """A choice of how the chip is used, which is no matter of chance: its tables stand in for the profile's own.

    without: figures of the profile that do not apply, such as "static.chip".
    """

    describes: Text
    without: tuple[Text, ...] = Field(default=(), strict=False)


class HardwareProfile(_Tables):
    """A chip's price list.

    name:      with ":scenario" behind it where one is chosen.
    describes: what the figures cover and what they leave out.
    excludes:  what a reader may take for covered, and is not: memory, host, idle power.
    """

    name: Text
    title: Text
    class_: Class = Field(alias="class")
    describes: Text
    excludes: tuple[Text, ...] = Field(default=(), strict=False)
    scenarios: dict[Text, Scenario] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not self.prices and not self.static:
            raise ValueError("needs at least one price, [prices.OPERATION]")
        whole = [key for key, price in self.prices.items() if price.scope == "all_in"]
        if whole and self.static:
            raise ValueError(
                f"prices.{whole[0]} is all_in, so static power is inside it: "
                f'remove static.{next(iter(self.static))} (in a scenario by "without"), or give a marginal price'
            )
        there = [f"{table}.{key}" for table in _Tables.model_fields for key in getattr(self, table)]
        for name, scenario in self.scenarios.items():
            if ":" in name:
                raise ValueError(f"scenarios.{name}: leave the colon out of the name, since it stands behind one")
            for key in scenario.without:
                if key not in there:
                    hint = did_you_mean(key, there).strip() or f"There are: {', '.join(there)}"
                    raise ValueError(f"scenarios.{name}.without: there is no {key!r} to leave out. {hint}")
            try:
                self.under(name)
            except ValidationError as error:
                raise ValueError(f"scenarios.{name}: {_first(error)}") from error
        return self

    @cached_property
    def figures(self) -> Mapping[str, tuple[Price, tuple[float, float, float]]]:
        """All figures by "table.key", each with (value, low, high) in SI units."""
        return {
            f"{table}.{key}": (price, price.si(wanted_unit(table, key)))
            for table in get_args(Table)
            for key, price in getattr(self, table).items()
        }

    def under(self, scenario: str) -> HardwareProfile:
        """The profile in one of its scenarios. Raises `ProfileError` for one that it does not have."""
        if scenario not in self.scenarios:
            there = ", ".join(self.scenarios) or "none"
            raise ProfileError(
                f"profile {self.name!r} has no scenario {scenario!r}; there are: {there}."
                f"{did_you_mean(scenario, self.scenarios)}"
            )
        chosen = self.scenarios[scenario]
        gone = {tuple(key.split(".", 1)) for key in chosen.without}
        tables: dict[str, Any] = {}
        for table in ("prices", "times", "static", "included"):
            kept = {k: v for k, v in getattr(self, table).items() if (table, k) not in gone}
            tables[table] = {**kept, **getattr(chosen, table)}
        tables["included"] = {k: v for k, v in tables["included"].items() if k not in chosen.prices}
        tables["prices"] = {k: v for k, v in tables["prices"].items() if k not in chosen.included}
        own = {"name": f"{self.name}:{scenario}", "title": f"{self.title}; {chosen.describes}", "class": self.class_}
        return HardwareProfile.model_validate({**own, "describes": self.describes, "excludes": self.excludes, **tables})


def wanted_unit(table: str, key: str) -> str:
    """The SI unit of a figure of a profile."""
    if table == "static":
        return "W"
    each = "/byte" if key in BYTES else ""
    return f"s{each}" if table == "times" else "W" if key in PHYSICAL else f"J{each}"


def profile_folder() -> Path:
    """Where the profiles are: inside the package once installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    for folder in (package / "hardware_profiles", package.parent / "hardware_profiles"):
        if folder.is_dir():
            return folder
    raise ProfileError(f"no folder hardware_profiles in or beside {package}: install mep-neuro again")


def profile_names() -> tuple[str, ...]:
    """Names of the profiles that come with mep-neuro."""
    return tuple(sorted(path.stem for path in profile_folder().glob("*.toml")))


def profile_path(name: str | os.PathLike[str]) -> Path:
    """The file of a profile, by its name, or the path of a TOML file of one's own. Raises `ProfileError`."""
    name = os.fspath(name)
    path = Path(name) if name.endswith(".toml") else profile_folder() / f"{name}.toml"
    if not path.is_file():
        raise ProfileError(
            f"no hardware profile {name!r}; there are: {', '.join(profile_names())}, or give the path of a .toml file."
            f"{did_you_mean(name, profile_names())}"
        )
    return path


def hardware_profile(name: str | os.PathLike[str]) -> HardwareProfile:
    """A profile by its name, or by the path of a TOML file of one's own; "loihi1:throttled" takes it in one of its
    scenarios. Raises `ProfileError`."""
    name = os.fspath(name)
    base, colon, scenario = name.rpartition(":")
    if not colon or scenario.endswith(".toml"):
        base, scenario = name, ""
    path = profile_path(base)
    try:
        profile = HardwareProfile.model_validate(_parse(path))
    except ValidationError as error:
        raise ProfileError(f"{path}: {' '.join(_first(error).split())}") from error
    return profile.under(scenario) if scenario else profile


def _first(error: ValidationError) -> str:
    """What is wrong, and where; an unknown key comes first, since it explains what is missing."""
    found = error.errors()
    unknown = [e for e in found if e["type"] == "extra_forbidden" or e["loc"][-1:] == ("[key]",)]
    first = (unknown or found)[0]
    keys = [str(part) for part in first["loc"] if part != "[key]"]
    hint = did_you_mean(keys[-1], _known(keys)) if unknown else ""
    message = "unknown key" if unknown else first["msg"].removeprefix("Value error, ")
    where = f"{'.'.join(keys)}: " if keys else ""  # what is found over several keys names them itself
    return f"{where}{message}{'' if message.endswith(('.', '?')) else '.'}{hint}"


def _known(keys: list[str]) -> list[str]:
    """What could stand where the last of the keys does."""
    fields: list[str] = [f.alias or name for name, f in HardwareProfile.model_fields.items()]
    if keys[0] == "scenarios" and len(keys) > 2:
        keys, fields = keys[2:], list(Scenario.model_fields)
    known: dict[int, list[str]] = {1: fields, 2: list(OPERATIONS), 3: list(Price.model_fields)}
    return known.get(len(keys), [])


def _parse(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path} is no TOML: {error}") from error
    except OSError as error:
        raise ProfileError(f"{path} cannot be read: {error.strerror or error}") from error
    return document
