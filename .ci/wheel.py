"""Builds the wheel, installs it in a bare environment, and runs the quick tests against it there.

The checkout is on no path in that environment, so a module, profile or entry point that the wheel lacks
fails here and nowhere else. Dependencies are borrowed from the environment that runs this script: nothing
is downloaded twice. Arguments are handed to pytest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
PROBE = """
import importlib.metadata, sys
import mep_neuro, mep_neuro_analog, mep_neuro_brian2, mep_neuro_lava, mep_neuro_reference, mep_neuro_torch
for module in (mep_neuro, mep_neuro_analog, mep_neuro_brian2, mep_neuro_lava, mep_neuro_reference, mep_neuro_torch):
    if not module.__file__.startswith(sys.prefix):
        sys.exit(f"{module.__name__} comes from {module.__file__}, not from the wheel")
for point in importlib.metadata.entry_points(group="mep_neuro.backends"):
    point.load()
if not mep_neuro.profile_names():
    sys.exit("the wheel brings no hardware profile")
"""


def run(*command: str | Path, cwd: Path, environment: dict[str, str] | None = None) -> None:
    """Run a command; if it fails, end with its status."""
    status = subprocess.run(command, cwd=cwd, env=environment, check=False).returncode
    if status:
        sys.exit(status)


def build(folder: Path) -> Path:
    """The wheel, built from the source archive, so that the archive is known to hold all it needs."""
    run(sys.executable, "-m", "build", "--outdir", folder, CHECKOUT, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def check_contents(wheel: Path) -> None:
    """Exit if the wheel lacks a file of the checkout's packages, or brings one that is not theirs."""
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    roots = [CHECKOUT / "mep_neuro", *(CHECKOUT / "backends").glob("mep_neuro_*")]
    wanted = {
        path.relative_to(root.parent).as_posix()
        for root in roots
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    profiles = CHECKOUT / "hardware_profiles"
    wanted |= {f"mep_neuro/hardware_profiles/{path.relative_to(profiles)}" for path in profiles.rglob("*.*")}
    if found != wanted:
        sys.exit(f"wheel lacks {sorted(wanted - found)} and should not have {sorted(found - wanted)}")


def environment_with(wheel: Path, folder: Path) -> Path:
    """A new virtual environment that holds the wheel, and borrows all else; returns its Python."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "--quiet"]
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder.parent)
    # Python reads no .pth file in a folder that a .pth file names, so the checkout's own stays unread.
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test(python: Path, folder: Path, arguments: list[str]) -> None:
    """Run the quick tests from a copy that lies outside the checkout."""
    folder.mkdir()
    leave_out = shutil.ignore_patterns("__pycache__", "test_architecture.py")  # that one reads the checkout
    for name in ("tests", "examples"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=leave_out)
    shutil.copy(CHECKOUT / "pyproject.toml", folder)  # pytest's settings
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PATH"] = f"{python.parent}{os.pathsep}{environment['PATH']}"
    run(python, "-c", PROBE, cwd=folder, environment=environment)
    run(python, "-m", "pytest", "-m", "not slow", *arguments, cwd=folder, environment=environment)


def main() -> None:
    """Build, look inside, install, test."""
    with tempfile.TemporaryDirectory(prefix="mep-neuro-wheel-") as name:
        folder = Path(name).resolve()
        (folder / "dist").mkdir()
        wheel = build(folder / "dist")
        check_contents(wheel)
        test(environment_with(wheel, folder / "venv"), folder / "outside", sys.argv[1:])


if __name__ == "__main__":
    main()
