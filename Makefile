# The commands of the README. Everything installs into .venv; nothing else on the machine is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA_DIR ?=
BENCH ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-ops test-cuda extras chaos soak fuzz cuda-dry-run check up bench bench-api format clean

help:  ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Installed again whenever what is asked for has changed. pip, because it honours the machine's own settings.
$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tunewright needs Python 3.11 or later; set PYTHON=")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (a few minutes the first time)…"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(VENV)/installed  ## fine-tune a real model end to end and judge the result (under 8 minutes)
	@$(BIN)/python examples/demo.py

# Three at a time on two cores: much of it waits for servers and leases. A file's tests share what they start; the
# longest come first (tests/budgets.py).
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder
test: $(VENV)/installed  ## run the test suite, but for test-ops and test-cuda (15 to 20 minutes on two cores)
	$(PYTEST) -m "not ops and not cuda"

test-ops: $(VENV)/installed  ## run the tests that start whole stacks and kill or stop their parts (5 to 10 minutes on two cores)
	$(PYTEST) -m ops

test-cuda: $(VENV)/installed  ## run a few trainings on a CUDA device that is not there (a minute; needs g++)
	$(BIN)/python -m pytest -m cuda

# The seed is printed; CHAOS_SEED=… repeats it.
chaos: $(VENV)/installed  ## run 200 jobs under faults and check every result; kill at every failpoint
	$(BIN)/python -m tests.chaos --guards --out benchmarks/results/chaos.json
	$(BIN)/python -m tests.chaos.readers
	TUNEWRIGHT_KILLS=20 TUNEWRIGHT_FAILPOINTS=all TUNEWRIGHT_FULL_DISK=1 $(BIN)/python -m pytest -rP -n 2 --dist loadfile tests/chaos tests/acceptance/test_full_disk.py

extras: $(VENV)/installed  ## install each extra alone into a clean environment and start what it is for (some minutes)
	$(BIN)/python -m tests.extras

SOAK_MINUTES ?= 30
soak: $(VENV)/installed  ## train through half an hour without PostgreSQL, while Redis starts anew all the time
	$(BIN)/python -m tests.chaos.soak --minutes $(SOAK_MINUTES) --out benchmarks/results/soak.json

fuzz: $(VENV)/installed  ## 100,000 random steps through the life of jobs, 100,000 malformed datasets, 20,000 requests by Schemathesis (the suite: a few)
	$(BIN)/python -m tests.fuzz
	$(BIN)/python -m tests.fuzz.faces --output benchmarks/results/faces.json
	HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest tests/integration/jobs/test_state_machine.py

# With a C++ compiler (CXX) and without a GPU; test-cuda runs a few of its cases.
cuda-dry-run: $(VENV)/installed  ## run forward and backward of 1,728 trainings on a CUDA device that is not there (15 minutes on two cores)
	$(BIN)/python -m tests.cuda_dry_run --all --processes $(shell nproc)

check: $(VENV)/installed  ## formatting, lint, types and architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# The peers that it measures against. They share our pins, so that everybody trains on the same torch.
$(VENV)/bench-installed: $(VENV)/installed
	@echo "Installing the peers into $(VENV)…"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	@touch $@

ALONE := inspection upload starts metrics_range hostile
bench: $(VENV)/bench-installed  ## measure against TRL and transformers, then the service (an hour; BENCH=--quick: ten minutes)
	@$(BIN)/python -m benchmarks $(BENCH)
	@$(if $(BENCH),,for name in $(ALONE); do $(BIN)/python -m benchmarks.$$name --output benchmarks/results/$$name.json || exit 1; done)

bench-api: $(VENV)/installed  ## measure polls and posts against bare handlers (four minutes; needs wrk)
	@$(BIN)/python -m benchmarks.api

up: $(VENV)/installed  ## start the local stack in the foreground
	@$(BIN)/tunewright up $(if $(DATA_DIR),--data-dir $(DATA_DIR))

format: $(VENV)/installed  ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove what make has installed here
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
