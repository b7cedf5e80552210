"""Netlists: ngspice finds the same operating point, and nothing of a user's reaches it as a command."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from circuits import data, network, opened
from torch import nn

import mep_neuro as mep
from mep_neuro.errors import InputError
from mep_neuro_analog import CircuitSpec, DeviceSpec

X, Y = data(3, 2, samples=1)

needs_ngspice = pytest.mark.skipif(shutil.which("ngspice") is None, reason="ngspice is not installed")


def operating_point(path: Path) -> dict[str, float]:
    """Node voltages that ngspice finds for a netlist, by lower-case name."""
    raw = path.with_suffix(".raw")
    run = subprocess.run(
        ["ngspice", "-b", "-r", raw.name, path.name],
        cwd=path.parent,
        env={**os.environ, "SPICE_ASCIIRAWFILE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    head, values = raw.read_text(encoding="utf-8").split("Values:")
    names = re.findall(r"^\s+\d+\s+(\S+)\s+(?:voltage|current)$", head, flags=re.MULTILINE)
    numbers = [float(v) for v in values.split()[1:]]
    return dict(zip(names, numbers, strict=True))


def apart(found: dict[str, float], states: Any) -> float:
    """The largest difference of a node's voltage, V."""
    return max(
        abs(found[f"v(n{level}_{i})"] - v) for level, s in enumerate(states, 1) for i, v in enumerate(s[0].tolist())
    )


@needs_ngspice
@pytest.mark.parametrize("hidden", [mep.Diodes, nn.ReLU, nn.Hardtanh])
@pytest.mark.parametrize("diode", ["shockley", "piecewise", "ideal"])
def test_ngspice_finds_the_same_rest(diode: str, hidden: Any, tmp_path: Path) -> None:
    substrate = opened(network(3, 4, 2, hidden=hidden), diode=diode)
    free = substrate.settle(X)
    for name, nudge in {
        "free": None,
        "towards": mep.Nudge(0.3, Y),
        "away": mep.Nudge(-0.3, Y),
        "forced": mep.Nudge(0.5, force=Y),
    }.items():
        e = free if nudge is None else substrate.settle(X, nudge=nudge, start=free)
        path = tmp_path / f"{name}.cir"
        substrate.netlist(path, X, nudge=nudge)
        found = operating_point(path)
        assert [found[f"v(in{j})"] for j in range(6)] == pytest.approx((8 * torch.cat([X, -X], 1))[0].tolist())
        assert apart(found, e.states) < 1e-6, name
        if nudge is not None:  # the nudge moves what is compared
            assert apart(found, free.states) > 1e-3


@needs_ngspice
def test_ngspice_takes_faulty_devices_deep_networks_and_other_temperatures(tmp_path: Path) -> None:
    substrate = opened(network(3, 5, 4, 2), diode="shockley", temperature=350.0, device="pcm", v_unit=0.5)
    substrate.advance(3600.0)
    e = substrate.settle(X)
    substrate.netlist(tmp_path / "net.cir", X)
    assert apart(operating_point(tmp_path / "net.cir"), [0.5 * s for s in e.states]) < 1e-6


def test_every_part_is_in_the_netlist(tmp_path: Path) -> None:
    net = network(3, 4, 2)
    with torch.no_grad():
        net.parameters["1.weight"][1, 2] = 0.0  # no resistor
    substrate = opened(net, diode="shockley")
    substrate.netlist(tmp_path / "net.cir", X, nudge=mep.Nudge(0.3, Y))
    lines = (tmp_path / "net.cir").read_text(encoding="utf-8").splitlines()
    kinds = [line[0] for line in lines]
    assert {k: kinds.count(k) for k in "VRIDG"} == {"V": 6 + 2, "R": 6 * 4 + 4 * 2 - 1, "I": 4 + 2, "D": 4, "G": 2}
    assert lines[-2:] == [".op", ".end"]
    g = net.parameters["1.weight"].detach()
    unit = 25e-6 / max(float(net.parameters[n].detach().max()) for n in net.conductances)
    resistor = next(line for line in lines if line.startswith("R1_3_2 n1_3 in2 "))
    assert float(resistor.split()[-1]) == pytest.approx(1 / (unit * float(g[3, 2])), rel=1e-12)


def test_names_cannot_become_commands(tmp_path: Path) -> None:
    evil = DeviceSpec(0.0, 25e-6, name="x\n.control\nshell touch owned\n.endc\r.include /etc/passwd")
    substrate = opened(network(3, 4, 2), spec=CircuitSpec(evil))
    substrate.netlist(tmp_path / "net.cir", X)
    lines = (tmp_path / "net.cir").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith(".")] == [".options " + lines[2][9:], ".op", ".end"]
    assert "device x_.control_shell touch owned_.endc_.include _etc_passwd" in lines[1]


def test_it_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    substrate = opened(network(3, 4, 2))
    with pytest.raises(InputError, match="cannot be written"):
        substrate.netlist(tmp_path / "nowhere" / "net.cir", X)
    with pytest.raises(InputError, match="4 samples"):
        substrate.netlist(tmp_path / "net.cir", X.repeat(4, 1))
    assert list(tmp_path.iterdir()) == []
