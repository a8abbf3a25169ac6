# Two commands on a fresh machine: `make demo` and `make test`. Each sets up what it needs in .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Of `make test`: one more than cores, for whoever tests in a cluster waits more than works.
WORKERS ?= $(shell expr $$(nproc 2>/dev/null || echo 2) + 1)

.PHONY: help install demo test lint format bench bench-sim bench-quic bench-rivals soak clean

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(STAMP)  ## make .venv with .venv/bin/p2pnet

$(STAMP): pyproject.toml node/pyproject.toml node/dependencies.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $(STAMP)

demo: $(STAMP)  ## ten nodes, real files, the report, a hop tree, and down again
	PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo.sh

test: $(STAMP)  ## every test
	$(BIN)/python -m pytest -p tests.workers -n $(WORKERS)

lint: $(STAMP)  ## style, types and floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)  ## put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)  ## the figures of docs/performance.md, measured here and now
	$(BIN)/python -m tests.bench.nodes

bench-sim: $(STAMP)  ## figures of the broadcast in virtual time: the same on every machine
	$(BIN)/python -m tests.bench.broadcast

bench-quic: $(STAMP)  ## the QUIC layer beside aioquic and the real qp2p in one run (qp2p needs cargo)
	$(BIN)/python -m tests.bench.quic

soak: $(STAMP)  ## the long sweeps, whole
	$(BIN)/python -m pytest -m soak --timeout 3600

clean:  ## remove what the other targets made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build

bench-rivals: $(STAMP)  ## the same loads beside gossipsub in one run (needs cargo)
	$(BIN)/python -m tests.bench.rivals
