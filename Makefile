# Every target sets up what it needs. The virtual environment is $(VENV); it is filled again when pyproject.toml or the
# constraints change. PyTorch comes from pip's own index: where that would bring CUDA packages that nobody needs, say
#     make demo PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints/ci.txt
DOCUMENT ?= examples/documents/harbour.txt
RECIPE ?= recipes/default-minilm.yaml
PYTEST_ARGS ?= -n auto --maxprocesses 4

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
export PIP_ROOT_USER_ACTION ?= ignore

.DEFAULT_GOAL := help
.PHONY: help demo test test-oldest lint types format train-default constraints clean

help:  ## Show this list
	@echo "make TARGET [VENV=folder] [PYTHON=python3.11]"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.installed-run  ## Extract the relations of an example document with the embedded default model
	$(BIN)/docre extract $(DOCUMENT)

test: lint types $(VENV)/.installed-dev  ## Lint, check types and run all tests
	$(BIN)/pytest $(PYTEST_ARGS)

test-oldest: $(VENV)/.installed-oldest  ## Run the tests with the oldest supported versions (use a VENV of its own)
	$(BIN)/pytest $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev  ## Check style: ruff rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev  ## Check types with mypy
	$(BIN)/mypy

format: $(VENV)/.installed-dev  ## Rewrite the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

train-default: $(VENV)/.installed-train-default  ## Train the embedded default model again (DOCRE_DATA=folder of the data sets)
	$(BIN)/docre train $(RECIPE)

constraints: $(VENV)/.installed-dev $(VENV)/.installed-train-default  ## Write what is installed now to constraints/ci.txt
	@{ sed '/^$$/q' constraints/ci.txt; $(PIP) freeze --exclude-editable --exclude modeling-docre \
		| sed 's/+cpu$$//'; } > $(VENV)/constraints.txt
	mv $(VENV)/constraints.txt constraints/ci.txt

clean:  ## Remove the virtual environment, caches and build products
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# An editable install: the tests and the type checker read the tree, not a copy.
$(VENV)/.installed-run: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(PIP) install --quiet --constraint $(CONSTRAINTS) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(PIP) install --quiet --constraint $(CONSTRAINTS) --editable '.[dev]'
	@touch $@ $(VENV)/.installed-run

$(VENV)/.installed-train-default: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(PIP) install --quiet --constraint $(CONSTRAINTS) --editable '.[train-default]'
	@touch $@ $(VENV)/.installed-run

$(VENV)/.installed-oldest: pyproject.toml constraints/oldest.txt | $(BIN)/python
	$(PIP) install --quiet --constraint constraints/oldest.txt --editable '.[test]'
	@touch $@
