"""The build itself: floors, vendor libraries, registered backends, public names, versions."""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mep_neuro as mep

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CHECKOUT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
CORE = CHECKOUT / "mep_neuro"
BACKENDS = sorted(p for p in (CHECKOUT / "backends").iterdir() if p.is_dir() and p.name != "__pycache__")
ENTRY_POINTS: dict[str, str] = PROJECT["project"]["entry-points"]["mep_neuro.backends"]
CONTRACTS = PROJECT["tool"]["importlinter"]["contracts"]
LAYERS = [re.findall(r"[\w.]+", layer) for layer in CONTRACTS[0]["layers"]]

# What a backend may import anywhere: the language of the protocol. Every other library is a vendor's.
EVERYDAY = {"numpy", "torch", "typing_extensions"}

# Files of more than 300 lines, each with its reason.
LONG: dict[str, str] = {}


def sources(*folders: Path) -> Iterator[Path]:
    """The Python files below the folders."""
    for folder in folders:
        yield from sorted(folder.rglob("*.py"))


def libraries(path: Path) -> set[str]:
    """Top-level names of what a file imports, wherever in it the import stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """import-linter's verdict on the packages that lie in a folder."""
    script = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    path = os.pathsep.join(map(str, (folder, folder / "backends")))
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_imports_go_down_the_floors() -> None:
    verdict = lint_imports(CHECKOUT)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


@pytest.mark.parametrize(
    ("file", "planted"),
    [
        ("mep_neuro/errors.py", "import mep_neuro.registry"),
        ("mep_neuro/network.py", "import mep_neuro"),
        ("mep_neuro/registry.py", "import mep_neuro_torch"),
        ("backends/mep_neuro_torch/__init__.py", "import mep_neuro_reference"),
        ("backends/mep_neuro_reference/__init__.py", "import mep_neuro.registry"),
    ],
)
def test_an_import_against_the_floors_is_found(file: str, planted: str, tmp_path: Path) -> None:
    for name in ("mep_neuro", "backends"):
        shutil.copytree(CHECKOUT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "pyproject.toml", tmp_path)
    with (tmp_path / file).open("a", encoding="utf-8") as source:
        source.write(f"\n{planted}\n")
    verdict = lint_imports(tmp_path)
    assert verdict.returncode == 1, verdict.stdout + verdict.stderr
    assert "BROKEN" in verdict.stdout


def test_every_module_of_the_core_has_one_floor() -> None:
    there = sorted(
        f"mep_neuro.{p.stem}"
        for p in CORE.iterdir()
        if (p.suffix == ".py" or (p / "__init__.py").exists()) and not p.stem.startswith("__")
    )
    listed = sorted(m for layer in LAYERS for m in layer if m.startswith("mep_neuro."))
    assert listed == there


@pytest.mark.parametrize("folder", BACKENDS, ids=lambda p: p.name)
def test_every_backend_is_packed_and_registered(folder: Path) -> None:
    name = folder.name
    assert (folder / "py.typed").exists()
    assert f"backends/{name}" in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert name in {point.partition(":")[0] for point in ENTRY_POINTS.values()}
    assert name in PROJECT["tool"]["importlinter"]["root_packages"]
    assert name in [m for layer in LAYERS for m in layer]
    assert name in CONTRACTS[1]["forbidden_modules"]


def test_entry_points_are_installed_and_are_backends() -> None:
    installed = {p.name: p for p in importlib.metadata.entry_points(group="mep_neuro.backends")}
    assert {name: installed[name].value for name in ENTRY_POINTS} == ENTRY_POINTS, "install again: pip install -e ."
    for name in ENTRY_POINTS:
        assert issubclass(installed[name].load(), mep.Backend)


@pytest.mark.parametrize("folder", BACKENDS, ids=lambda p: p.name)
def test_a_vendor_library_is_imported_in_one_place(folder: Path) -> None:
    """A file, or a folder below the backend's where the library wants one."""
    places: dict[str, set[str]] = defaultdict(set)
    for path in sources(folder):
        for library in libraries(path) - EVERYDAY - sys.stdlib_module_names - {"mep_neuro", folder.name}:
            places[library].add(path.name if path.parent == folder else path.parent.name)
    assert {library: files for library, files in places.items() if len(files) > 1} == {}


def test_no_branch_on_a_backends_name() -> None:
    found = []
    for path in sources(CORE):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare) and re.search("(name|backend|substrate)$", ast.unparse(node.left)):
                constants = {c.value for c in ast.walk(node) if isinstance(c, ast.Constant)}
            elif isinstance(node, ast.MatchValue) and isinstance(node.value, ast.Constant):
                constants = {node.value.value}
            else:
                continue
            if constants & set(ENTRY_POINTS):
                found.append(f"{path.name}:{ast.unparse(node)}")
    assert found == []


@pytest.mark.parametrize("name", ["mep_neuro", *(p.name for p in BACKENDS)])
def test_public_names_are_sorted_and_there(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__all__ == sorted(set(module.__all__))
    assert [n for n in module.__all__ if not hasattr(module, n)] == []


def test_every_public_name_has_its_place_on_an_api_page() -> None:
    pages = "".join(p.read_text(encoding="utf-8") for p in (CHECKOUT / "docs" / "api").iterdir())
    # mep_neuro.backend and mep_neuro.compare are functions to Python, but modules to what builds the site.
    shown = re.findall(r"^::: mep_neuro\.(?:(?:registry|compare)\.)?(\w+)$", pages, flags=re.MULTILINE)
    assert [name for name in mep.__all__ if shown.count(name) != 1] == []


def script_at(path: Path) -> Any:
    """A script outside the packages, as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_docstrings_reach_the_site_as_markdown() -> None:
    extension = script_at(CHECKOUT / ".ci" / "docstrings.py")
    results = doctest.testmod(extension)
    assert results.attempted == 1
    assert results.failed == 0


def test_one_version() -> None:
    version = PROJECT["project"]["version"]
    assert importlib.metadata.version("mep-neuro") == version
    assert f"\nversion: {version}\n" in (CHECKOUT / "CITATION.cff").read_text(encoding="utf-8")


def test_files_are_short_or_have_a_reason() -> None:
    folders = (CORE, *BACKENDS, CHECKOUT / "examples", CHECKOUT / "benchmarks")
    lengths = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in sources(*folders)}
    assert {p.relative_to(CHECKOUT).as_posix() for p, n in lengths.items() if n > 300} == set(LONG)


def test_the_benchmark_page_is_what_the_results_say() -> None:
    script = script_at(CHECKOUT / "benchmarks" / "write_page.py")
    assert script.PAGE.read_text(encoding="utf-8") == script.page()


def test_the_validation_pages_are_what_the_results_say() -> None:
    script = script_at(CHECKOUT / "benchmarks" / "write_validation.py")
    for path, text in script.PAGES.items():
        assert path.read_text(encoding="utf-8") == text()
