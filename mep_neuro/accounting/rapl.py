"""RAPL: the energy counters of CPU packages and their memory, as Linux shows them below /sys/class/powercap.

    /sys/class/powercap/intel-rapl:0     package-0   counted
                        intel-rapl:0:0   core        not: lies within the package, as uncore does
                        intel-rapl:0:1   dram        counted: lies beside the package
                        intel-rapl:1     psys        not: the whole board, packages included
                        intel-rapl-mmio:0            not: package-0 once more, by another way

AMD's processors show the same names. Each folder holds `energy_uj`, microjoules, which starts again at zero after
`max_energy_range_uj`. On many processors dram is a model of the firmware, not a measurement (Desrochers et al.,
MEMSYS 2016, doi:10.1145/2989081.2989088).

Source: Linux kernel, Documentation/power/powercap/powercap.rst, and drivers/powercap/intel_rapl_common.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mep_neuro.accounting.sensors import POWERCAP, SensorUnavailable

_FOLDER = re.compile(r"intel-rapl:(\d+)(?::(\d+))?")
_DIGITS = re.compile(r"[0-9]{1,20}")
_PACKAGE = re.compile(r"package-\d+(-die-\d+)?")


@dataclass(frozen=True)
class Domain:
    """One counter: its name, its folder, and the microjoules after which it starts again."""

    name: str
    folder: Path
    range: int

    def read(self) -> int:
        """Microjoules, from 0 to `range`."""
        return _number(self.folder / "energy_uj")


class RaplSensor:
    """The sum of all packages and their DRAM, whoever used them."""

    name = "rapl"

    def __init__(self, domains: Sequence[Domain]) -> None:
        self._domains = tuple(domains)
        self._last = [domain.read() for domain in self._domains]
        self._microjoules = 0

    @property
    def covers(self) -> str:
        """Packages and DRAM domains, counted."""
        drams = sum(domain.name == "dram" for domain in self._domains)
        packages = len(self._domains) - drams
        memory = f"and {_several(drams, 'DRAM domain')}" if drams else "without DRAM"
        return f"{_several(packages, 'CPU package')} {memory}, all programs on them, no GPU"

    def read(self) -> float:
        """Joules since the sensor was found. Must be called before a counter has come round a second time.

        Raises:
            SensorUnavailable: a counter cannot be read, or fell from where it cannot have come round.
        """
        now = [domain.read() for domain in self._domains]
        self._microjoules += sum(map(_rise, self._domains, self._last, now))
        self._last = now
        return self._microjoules * 1e-6

    def close(self) -> None:
        """Nothing is held open."""


def find_rapl(powercap: Path = POWERCAP) -> RaplSensor | str:
    """All packages below `powercap` and their DRAM, or the reason why they cannot be read."""
    try:
        found = ((_FOLDER.fullmatch(path.name), path) for path in powercap.iterdir())
        folders: dict[tuple[str, str | None], Path] = {(match[1], match[2]): path for match, path in found if match}
    except FileNotFoundError:
        return f"{powercap} is not there (no Linux RAPL driver; virtual machines and containers usually hide it)"
    except OSError as error:
        return f"{powercap} cannot be listed: {error.strerror or error}"
    try:
        domains = list(_counted(folders))
        if not domains:
            return f"{powercap} shows no CPU package (virtual machines and containers usually hide them)"
        return RaplSensor(domains)
    except SensorUnavailable as error:
        return str(error)


def _counted(folders: dict[tuple[str, str | None], Path]) -> Iterator[Domain]:
    """The packages, each name once, and the DRAM of each."""
    names = {key: _text(path / "name") for key, path in folders.items()}
    seen = set[str]()
    for (number, part), name in sorted(names.items(), key=lambda item: int(item[0][0])):
        if part is not None or not _PACKAGE.fullmatch(name) or name in seen:
            continue
        seen.add(name)
        inside = [key for key, below in names.items() if key[0] == number and key[1] is not None and below == "dram"]
        for key in [(number, part), *inside]:
            yield Domain(names[key], folders[key], _number(folders[key] / "max_energy_range_uj", least=1))


def _rise(domain: Domain, last: int, now: int) -> int:
    """Microjoules from one reading to the next: now - last, or now - last + range where the counter came round."""
    rise = now - last if now >= last else now - last + domain.range
    if now < last and not 0 <= rise <= domain.range // 2:
        raise SensorUnavailable(
            f"{domain.folder / 'energy_uj'} fell from {last} to {now}, too far to have passed its end at "
            f"{domain.range}: it was set back, perhaps by a sleep of the machine. Measure again."
        )
    return rise


def _several(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _number(path: Path, least: int = 0) -> int:
    """The whole number in a file."""
    text = _text(path)
    if not _DIGITS.fullmatch(text) or int(text) < least:
        raise SensorUnavailable(f"{path} holds {text[:40]!r}, not a number of microjoules")
    return int(text)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except PermissionError as error:
        raise SensorUnavailable(
            f"{path} may be read by root alone: sudo chmod -R a+r {path.parent.parent}/intel-rapl* "
            "(until the next start of the machine), or run as root"
        ) from error
    except OSError as error:
        raise SensorUnavailable(f"{path} cannot be read: {error.strerror or error}") from error
