"""HardwareProfile: what an operation costs on a chip, each price with its unit, interval, kind and source."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from typing_extensions import Self

from mep_neuro.counts import OPERATIONS, Operation
from mep_neuro.errors import ProfileError, did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]  # mypy reads this branch on 3.11 too

JOULES: Mapping[str, float] = {"J": 1.0, "mJ": 1e-3, "uJ": 1e-6, "nJ": 1e-9, "pJ": 1e-12, "fJ": 1e-15}
"""Units that a price may be given in."""

KINDS = ("measured", "fitted", "simulated", "published", "datasheet", "assumed")
"""Kinds of prices, the strongest first."""

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Price(BaseModel):
    """What one operation costs: `value` in `unit`, between `low` and `high`, and where that comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    value: Amount
    unit: Literal["J", "mJ", "uJ", "nJ", "pJ", "fJ"]
    low: Amount
    high: Amount
    kind: Literal["measured", "fitted", "simulated", "published", "datasheet", "assumed"]
    scope: Literal["marginal", "static", "all_in"]
    conditions: Text
    source: Text
    place: Text
    verified: bool

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"needs low <= value <= high, not {self.low}, {self.value}, {self.high}")
        return self

    @property
    def joules(self) -> tuple[float, float, float]:
        """(value, low, high) in joules an operation."""
        scale = JOULES[self.unit]
        return self.value * scale, self.low * scale, self.high * scale


class HardwareProfile(BaseModel):
    """A chip's price list, by operation (see `OperationCounts`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Text
    title: Text
    describes: Text
    prices: Annotated[dict[Operation, Price], Field(min_length=1)]


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


def hardware_profile(name: str | os.PathLike[str]) -> HardwareProfile:
    """A profile by its name, or by the path of a TOML file of one's own. Raises `ProfileError`."""
    name = os.fspath(name)
    path = Path(name) if name.endswith(".toml") else profile_folder() / f"{name}.toml"
    if not path.is_file():
        raise ProfileError(
            f"no hardware profile {name!r}; there are: {', '.join(profile_names())}, or give the path of a .toml file."
            f"{did_you_mean(name, profile_names())}"
        )
    try:
        return HardwareProfile.model_validate(_parse(path))
    except ValidationError as error:
        raise ProfileError(f"{path}: {_first(error)}") from error


def _first(error: ValidationError) -> str:
    """What is wrong, and where; an unknown key comes first, since it explains what is missing."""
    found = error.errors()
    unknown = [e for e in found if e["type"] == "extra_forbidden" or e["loc"][-1:] == ("[key]",)]
    first = (unknown or found)[0]
    keys = [str(part) for part in first["loc"] if part != "[key]"]
    known = {1: list(HardwareProfile.model_fields), 2: OPERATIONS, 3: list(Price.model_fields)}.get(len(keys), [])
    hint = did_you_mean(keys[-1], known) if unknown else ""
    return f"{'.'.join(keys) or 'the file'}: {'unknown key' if unknown else first['msg']}.{hint}"


def _parse(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path} is no TOML: {error}") from error
    except OSError as error:
        raise ProfileError(f"{path} cannot be read: {error.strerror or error}") from error
    return document
