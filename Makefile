# Every target sets up what it needs. Another interpreter: make test PYTHON=python3.13 VENV=.venv-3.13
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= test,dev
BIN := $(VENV)/bin
WORKERS ?= 2
LEVEL ?= steps

.PHONY: train test test-slow proof accuracy check format-check lint types benchmark clean

train: $(VENV)/.use  ## train the embedded default: LeNet-5 on the handwritten digits
	$(BIN)/convax train

test: $(VENV)/.develop  ## the test suite, doctests included
	$(BIN)/python -m pytest -n $(WORKERS)

test-slow: $(VENV)/.develop  ## what takes minutes: whole trainings, kills, installations
	$(BIN)/python -m pytest -m slow

proof: $(VENV)/.develop  ## every operation x oracle x transformation, as a table
	$(BIN)/python -m tests.proof

accuracy: $(VENV)/.develop  ## docs/accuracy.md: float32 against float64 loops
	$(BIN)/python -m tests.proof --accuracy docs/accuracy.md

check: format-check lint types test  ## what CI runs

format-check: $(VENV)/.develop
	$(BIN)/ruff format --check .

lint: $(VENV)/.develop
	$(BIN)/ruff check .

# pyright follows no import hook, which is what an editable installation of these folders is.
types: $(VENV)/.develop
	rm -rf build
	$(BIN)/python -m pip install --quiet --no-deps --target build/types .
	$(BIN)/pyright --pythonpath $(BIN)/python

# The others: make benchmark LEVEL=ops, inference or seeds; options: make benchmark ARGS=--quick
benchmark: $(VENV)/.bench  ## the training step against Flax, Equinox and PyTorch
	$(BIN)/python benchmarks/$(LEVEL).py $(ARGS)

clean:
	rm -rf .venv* build dist *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.use: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.develop: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[$(EXTRAS)]"
	touch $@

$(VENV)/.bench: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[bench]"
	touch $@
