# Two commands on a fresh machine: `make demo` and `make test`. Each sets up what it needs in .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
# Python compiles what is imported when it is; compiling all of a Kubernetes client takes longer than fetching it.
INSTALL := install --quiet --no-compile --disable-pip-version-check
BUILD := 'pip>=25.1' 'hatchling>=1.27' 'hatch-vcs>=0.5'
PIN = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url $(LOCK)
UNIT := not soak and not cluster and not e2e and not browser
# Of `make test`: one more than cores, for whoever tests in a cluster waits more than works.
WORKERS ?= $(shell expr $$(nproc 2>/dev/null || echo 2) + 1)

.PHONY: help install dev page lock demo unit e2e browser cluster coverage test lint docs format bench bench-imports bench-sim bench-quic bench-rivals soak clean

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(RUNTIME)  ## make .venv with .venv/bin/p2pnet

dev: $(DEV)  ## the same with the tools that test, lint and format need

# pip of $(PYTHON) fills .venv, which takes a second; one without pip, or with an old one, gives .venv its own first.
$(RUNTIME): pyproject.toml node/pyproject.toml node/dependencies.py
	$(PYTHON) -m venv --without-pip $(VENV)
	$(PYTHON) -m pip --python $(BIN)/python $(INSTALL) $(BUILD) 2>/dev/null || \
	  { $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip $(INSTALL) $(BUILD); }
	$(BIN)/python -m pip $(INSTALL) --no-build-isolation --editable .
	@touch $@

$(DEV): $(RUNTIME)
	$(BIN)/python -m pip $(INSTALL) --group dev
	@touch $@

# The same lock and sources give the same bytes; tests/present/test_vendor.py compares.
page:  ## build the scripts of the rich HTML page from cli/page (needs node and npm)
	cd cli/page && npm ci --ignore-scripts && npm run build

# Pins stay as they are where they fit; LOCK="--upgrade" or LOCK="--upgrade-package NAME" moves them. The same lock for every Python and platform.
lock: $(DEV)  ## what the images install, to the hash: node/image.lock, operator/image.lock and operator/build.lock
	$(BIN)/python -m pip $(INSTALL) --group lock
	$(PIN) node/pyproject.toml --extra image --output-file node/image.lock
	$(PIN) --group image-operator --output-file operator/image.lock
	$(PIN) --group image-build --output-file operator/build.lock

demo: $(RUNTIME)  ## ten nodes, real files, the report, a hop tree, and down again
	PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo.sh

unit: $(DEV)  ## the tests without a cluster and without whole subnets: minutes
	$(BIN)/python -m pytest -m "$(UNIT)"

e2e: $(DEV)  ## the tests with whole subnets of this machine
	$(BIN)/python -m pytest -m e2e

browser: $(DEV)  ## the tests of the rich HTML page in Chromium, which root gets from apt; pictures in build/screenshots
	$(BIN)/python -m pytest -m browser

cluster: $(DEV)  ## the tests with a real Kubernetes, which they build and start: tests/cluster/README.md
	$(BIN)/python -m pytest -m cluster

# coverage.py's quick way of counting needs Python 3.12; older ones take theirs.
coverage: $(DEV)  ## the unit tests, and whether each room is covered as far as it was
	$(BIN)/python -m coverage erase
	COVERAGE_CORE=$$($(BIN)/python -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")') \
	  $(BIN)/python -m coverage run -m pytest -m "$(UNIT)"
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage json --quiet
	$(BIN)/python -m tests.room_coverage coverage.json

test: $(DEV)  ## every test
	$(BIN)/python -m pytest -p tests.workers -n $(WORKERS)

lint: $(DEV)  ## style, types, floors, scripts and workflows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/shellcheck -x $$(git ls-files '*.sh' .ci/run tests/cluster/stand_in/docker tests/cluster/kind_node/entrypoint tests/cluster/kind_node/runtime)
	bash tests/lint_workflows.sh

docs: $(DEV)  ## the site with its reference and gallery, into build/docs
	$(BIN)/python -m pip $(INSTALL) --group docs
	rm -rf build/docs
	$(BIN)/python -m docs.website.generate
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --fresh-env --conf-dir docs/website \
	  --doctree-dir build/docs-doctrees build/docs-source build/docs
	@echo "build/docs/index.html"

format: $(DEV)  ## put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DEV)  ## the figures of docs/performance.md, measured here and now
	$(BIN)/python -m tests.bench.nodes

bench-sim: $(DEV)  ## figures of the broadcast in virtual time, the same on every machine; and what the simulator costs here
	$(BIN)/python -m tests.bench.broadcast
	$(BIN)/python -m tests.bench.simulator

bench-imports: $(DEV)  ## what a pod's Python costs before its first node, beside Python alone in one run
	$(BIN)/python -m tests.bench.imports

bench-quic: $(DEV)  ## the QUIC layer beside aioquic and the real qp2p in one run (qp2p needs cargo)
	$(BIN)/python -m tests.bench.quic

soak: $(DEV)  ## the long sweeps, whole
	$(BIN)/python -m pytest -m soak --timeout 3600

clean:  ## remove what the other targets made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage* coverage.json dist build

bench-rivals: $(DEV)  ## the same loads beside gossipsub in one run (needs cargo)
	$(BIN)/python -m tests.bench.rivals
