# `make demo` sets up .venv and runs the main job; `make test` adds the test tools and runs the tests.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-all fuzz lint docs lock clean

demo: $(VENV)/.base
	$(BIN)/nextpixel demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest

test-all: $(VENV)/.dev
	$(BIN)/python -m pytest -m ''

# 100,000 damaged archives, and 2,000 with their checksums put right; 2,000 more of these for a frozen network: about a
# quarter of an hour.
fuzz: $(VENV)/.dev
	PYTHONPATH=tests $(BIN)/python tests/fuzz_archives.py
	PYTHONPATH=tests $(BIN)/python tests/fuzz_archives.py --mutations 0 --repaired 2000 --frozen

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, into site/: open site/index.html.
docs: $(VENV)/.dev
	$(BIN)/zensical build --strict

$(VENV)/.base: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "nextpixel needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[web]'
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	$(PIP) -e '.[dev]'
	@touch $@

# Resolve the newest versions again; torch stays pinned exactly so that pip takes the CPU wheel where one is at hand.
lock:
	rm -rf .lockenv && $(PYTHON) -m venv .lockenv
	echo 'torch==2.13.0' > .lockenv/c.txt
	.lockenv/bin/python -m pip install --quiet -c .lockenv/c.txt '.[dev]'
	.lockenv/bin/python -m pip freeze --exclude nextpixel | sed 's/+cpu$$//' > constraints.txt
	rm -rf .lockenv

clean:
	rm -rf $(VENV) build site .pytest_cache .mypy_cache .ruff_cache
