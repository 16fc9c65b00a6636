# make run: one minute of a person's brain. make help: the rest.
# Needs Python 3.11 or later; PYTHON=… names another one, VENV=… another environment.

VENV ?= .venv
PYTHON ?=
WORKERS ?= 2

BIN := $(VENV)/bin
GPU_PYTHON ?= $(BIN)/python
FIGURES ?=
RESULTS ?=
COMMIT ?=
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

# An editable install: the sources here are what runs, and numba keeps what it compiled beside them.
INSTALLED := $(VENV)/.dtb-installed
TESTABLE := $(VENV)/.dtb-testable

PEERS := $(VENV)/peers
peer-nest := nest-simulator==3.10.0
peer-brian2 := brian2==2.9.0 'numpy<2.3'

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test test-gpu lint bench bench-gpu bench-cluster bench-peers validate compare-with-nest clean

help:
	@echo "make run        simulate configs/rest.toml into runs/rest, replacing an earlier run there"
	@echo "make test       ruff, mypy and the tests; make validate has the slow ones"
	@echo "make lint       ruff and mypy only"
	@echo "make bench      measure, and print a line of JSON per figure"
	@echo "make bench-cluster  many ranks: balance, plans, checkpoints"
	@echo "make test-gpu   the tests of the cuda backend, on a GPU; GPU_PYTHON=… names a Python that has CuPy"
	@echo "make bench-gpu  measure on a GPU, and append to docs/gpu-results.jsonl; FIGURES=… names some figures"
	@echo "make bench-peers  the same network in NEST and Brian2, which it installs apart; twenty minutes"
	@echo "make validate   the laws at toy size, the embedded brain, the slow tests, and a comparison with NEST"
	@echo "make clean      remove caches and builds; keeps runs/ and $(VENV)"

run: $(INSTALLED)
	$(BIN)/dtb run configs/rest.toml -o runs/rest --force
	@echo
	@echo "In runs/rest: report.html (open it in a browser), summary.json (the numbers), recording.zarr (opens with xarray),"
	@echo "bold/ (simulated BOLD), config.toml (what was run), provenance.json. Once more: $(BIN)/dtb show runs/rest"

test: lint
	$(BIN)/python -m pytest -q -m "not slow and not gpu" -n $(WORKERS) --dist loadfile

lint: $(TESTABLE)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks

validate: $(TESTABLE)
	$(BIN)/dtb check
	$(BIN)/dtb brain validate dtb/data/default_brain.h5
	$(BIN)/python -m pytest -q -m slow
	@$(MAKE) --no-print-directory --keep-going compare-with-nest

# NEST is optional: where it cannot be installed, this says so and goes on.
compare-with-nest: $(INSTALLED)
	-@$(MAKE) --no-print-directory $(PEERS)/nest/.installed
	$(BIN)/python -m validate --nest $(PEERS)/nest/bin/python

bench-cluster: $(TESTABLE)
	$(BIN)/python -m benchmarks.cluster

# These install nothing, for where the GPU is there may be no registry; see benchmarks/carry_wheels.sh.
test-gpu:
	$(GPU_PYTHON) -m pytest -q -p no:cacheprovider -m gpu tests/cuda

bench-gpu:
	$(GPU_PYTHON) -m benchmarks.gpu $(FIGURES) $(if $(RESULTS),--out $(RESULTS)) $(if $(COMMIT),--commit $(COMMIT))

bench-peers: $(INSTALLED) $(PEERS)/nest/.installed $(PEERS)/brian2/.installed
	$(BIN)/python -m benchmarks.peers --environments $(PEERS)

clean:
	rm -rf build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# An environment that is there stays, with all that is in it; only what pyproject.toml asks for is added.
$(BIN)/python:
	@set -e; python="$(PYTHON)"; \
	for each in python3 python3.14 python3.13 python3.12 python3.11 python; do \
		if [ -z "$$python" ] && $$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$each; fi; \
	done; \
	if [ -z "$$python" ]; then echo "No Python 3.11 or later on the PATH. Name one: make PYTHON=/path/to/python3" >&2; exit 1; fi; \
	if ! $$python -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "$$python has no venv module. Debian and Ubuntu have it in the package python3-venv." >&2; exit 1; fi; \
	echo "$$python -m venv $(VENV)"; \
	$$python -m venv "$(VENV)"

$(INSTALLED): pyproject.toml | $(BIN)/python
	$(PIP) --editable .
	@touch $@

# Other simulators, each in an environment of its own, in the versions that docs/peers.md tells of. Both are GPL, and
# nothing that is installed with dtb imports them.
$(PEERS)/%/.installed: | $(BIN)/python
	@echo "installing $(peer-$*) into $(PEERS)/$*"
	@rm -rf $(PEERS)/$*
	@$(BIN)/python -m venv $(PEERS)/$*
	@$(PEERS)/$*/bin/python -m pip --disable-pip-version-check install --quiet --only-binary=:all: $(peer-$*) || \
		{ rm -rf $(PEERS)/$*; exit 1; }
	@touch $@

$(TESTABLE): pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[test]'
	@touch $(INSTALLED) $@
