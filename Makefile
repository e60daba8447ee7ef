# Two commands for everybody: make demo, make test. Each sets up .venv by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test examples bench fuzz soak kills docs clean

help:  ## Print this list
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | sort

demo: $(VENV)/.installed  ## Run the main job on the embedded server and real data
	$(BIN)/embstore demo

test: $(VENV)/.test  ## Check style and types, then run the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist worksteal

examples: $(VENV)/.examples  ## Run every example of the gallery, and write docs/gallery.md
	$(BIN)/python -m examples --write

bench: $(VENV)/.bench  ## Measure against raw psycopg and the peers, and write docs/benchmarks.md
	$(BIN)/python -m benchmarks

fuzz: $(VENV)/.test  ## Read 100,000 damaged files of every format
	$(BIN)/python -m tests.fuzz

soak: $(VENV)/.test  ## Ask, load and release at once for a minute, and check every answer
	$(BIN)/python -m tests.soak

kills: $(VENV)/.test  ## Kill clients and servers 200 times, and check what is left
	$(BIN)/python -m tests.kills

docs: $(VENV)/.test  ## Write docs/cli.md anew from --help
	$(BIN)/python docs/generate.py

clean:  ## Remove the virtual environment and what tools left
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@ $(VENV)/.installed

$(VENV)/.examples: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[examples]' 'torch==2.13.0'
	touch $@

$(VENV)/.bench: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[bench]'
	touch $@
