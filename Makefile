# make demo   train a digit classifier by equilibrium propagation, then compare the backends and backprop on it
# make test   every check: format, lint, types, import contracts, docs, the built wheel, tests and examples
#
# Each needs only Python, pip, make and a C compiler: it makes .venv and installs into it what is missing.

PYTHON  ?= $(shell python3.11 -c '' 2>/dev/null && echo python3.11 || echo python3)
JOBS    ?= 2
BIN     := .venv/bin
READY   := .venv/.ready
# Loihi hosts have Python 3.10; on PATH, or pyenv's.
PYTHON310 ?= $(shell python3.10 -c '' 2>/dev/null && echo python3.10 || ls $$HOME/.pyenv/versions/3.10*/bin/python3.10 2>/dev/null | tail -1)
# constraints.txt was resolved on Python 3.11 and holds there; on another Python pip chooses within the ranges.
PINNED   = $(shell $(PYTHON) -c 'import sys; print("-c constraints.txt" if sys.version_info[:2] == (3, 11) else "")')
# The release of Lava asks for Python 3.10, and runs on newer ones (mep_neuro_lava/compat.py).
LAVA     = $(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --ignore-requires-python lava-nc==0.10.0
# One thread a worker: the workers already fill the cores.
PYTEST   = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)

.PHONY: help demo test lint types docs wheel tests bench format constraints clean
.NOTPARALLEL:
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: $(READY)
	$(BIN)/mep-neuro train --data digits --layers 64,128,10 --epochs 20 --seed 0
	$(BIN)/mep-neuro compare --data digits --layers 64,128,10 --epochs 5 --seed 0 --out runs/report

# The tests come last, so that the last line is pytest's.
test: lint types docs wheel tests

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(READY)
	$(BIN)/mypy

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

wheel: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python .ci/wheel.py -n $(JOBS)

tests: $(READY) .venv310/.ready
	$(PYTEST)

# Python 3.10 with Lava alone, as on a Loihi host: bundles are run there too, where that Python is found.
.venv310/.ready:
	if test -n "$(PYTHON310)"; then $(PYTHON310) -m venv .venv310 \
		&& .venv310/bin/python -m pip install --disable-pip-version-check --quiet lava-nc==0.10.0 && touch $@; fi

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Times and memory against backprop; needs MNIST (mep-neuro data get mnist). Figures to read, no test.
bench: $(READY)
	$(BIN)/python benchmarks/ep_against_backprop.py --quick --rounds 100

# Resolves the ranges of pyproject.toml anew; run it with Python 3.11.
constraints:
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -e '.[all]'
	sed -n '/^#/p' constraints.txt > constraints.tmp
	$(BIN)/python -m pip list --disable-pip-version-check --format=freeze --exclude-editable --exclude pip \
		| sed 's/+[a-z0-9.]*$$//' >> constraints.tmp
	mv constraints.tmp constraints.txt
	$(LAVA)
	touch $(READY)

clean:
	rm -rf .venv .venv310 build dist site .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet $(PINNED) -e '.[all]'
	$(LAVA)
	touch $@
