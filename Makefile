# Development commands. They install only into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA_DIR ?=
BENCH ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-ops test-cuda page screenshots page-soak extras chaos soak fuzz cuda-dry-run check up bench bench-api bench-page format clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Reinstalls when the requirements change. Uses pip, because pip respects the machine's configuration.
$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tunewright needs Python 3.11 or later. Set PYTHON to one.")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (takes a few minutes the first time)…"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(VENV)/installed  ## fine-tune a real model end to end and evaluate the result (under 8 minutes)
	@$(BIN)/python examples/demo.py

# Runs three files at a time on two cores, because many tests wait for servers and leases. The tests of a file share its
# fixtures. The longest files run first (tests/budgets.py).
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder
test: $(VENV)/installed  ## run the test suite without test-ops, test-cuda and page (12 minutes on two cores)
	$(PYTEST) -m "not ops and not cuda and not page"

test-ops: $(VENV)/installed  ## run the tests that start a stack and kill or stop its processes (5 to 7 minutes on two cores)
	$(PYTEST) -m ops

test-cuda: $(VENV)/installed  ## run a few trainings on a fake CUDA device, without a GPU (a minute; needs g++)
	$(BIN)/python -m pytest -m cuda

# Installs what tests the web page. Chromium itself comes from the system: apt-get install chromium fonts-dejavu-core.
$(VENV)/page-installed: $(VENV)/installed
	@echo "Installing Playwright, axe and Deno into $(VENV)…"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,browser]'
	@touch $@

# Deno checks and tests the scripts without a network: they import nothing that is not in this checkout.
DENO := DENO_NO_UPDATE_CHECK=1 DENO_DIR=$(abspath $(VENV))/deno $(BIN)/deno
SCRIPTS := app/page/static/js tests/page/js
page: $(VENV)/page-installed  ## check and test the web page's scripts, and test the page in Chromium (some minutes)
	$(DENO) fmt --check
	$(DENO) lint
	$(DENO) check --no-remote --cached-only $(SCRIPTS)
	$(DENO) test --no-remote --cached-only --allow-read=app/page/static tests/page/js
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests/page

screenshots: $(VENV)/page-installed  ## take the pictures of the web page in docs/screenshots
	$(BIN)/python -m tests.page.screenshots

PAGE_SOAK_MINUTES ?= 60
PAGE_SOAK_OUT ?= benchmarks/results/page_soak.json
page-soak: $(VENV)/page-installed  ## compare eight live jobs in Chromium for an hour and measure the page's memory
	$(BIN)/python -m tests.page.soak --minutes $(PAGE_SOAK_MINUTES) --out $(PAGE_SOAK_OUT)

# Prints its seed. CHAOS_SEED=… repeats a run.
chaos: $(VENV)/installed  ## run 200 jobs under faults, check every result, and kill processes at every failpoint
	$(BIN)/python -m tests.chaos --guards --out benchmarks/results/chaos.json
	$(BIN)/python -m tests.chaos.readers
	TUNEWRIGHT_KILLS=20 TUNEWRIGHT_FAILPOINTS=all TUNEWRIGHT_FULL_DISK=1 $(BIN)/python -m pytest -rP -n 2 --dist loadfile tests/chaos tests/acceptance/test_full_disk.py

extras: $(VENV)/installed  ## install each extra alone into a clean environment and test it (some minutes)
	$(BIN)/python -m tests.extras

SOAK_MINUTES ?= 30
soak: $(VENV)/installed  ## train through a PostgreSQL outage of half an hour and repeated restarts of Redis
	$(BIN)/python -m tests.chaos.soak --minutes $(SOAK_MINUTES) --out benchmarks/results/soak.json

fuzz: $(VENV)/installed  ## test with 100,000 random job state changes, 100,000 malformed datasets and 20,000 Schemathesis requests
	$(BIN)/python -m tests.fuzz
	$(BIN)/python -m tests.fuzz.faces --output benchmarks/results/faces.json
	HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest tests/integration/jobs/test_state_machine.py

# Needs a C++ compiler (CXX) and no GPU. test-cuda runs a few of its cases.
cuda-dry-run: $(VENV)/installed  ## run forward and backward of 1,728 trainings on a fake CUDA device (20 minutes on two cores)
	$(BIN)/python -m tests.cuda_dry_run --all --processes $(shell nproc)

check: $(VENV)/installed  ## check formatting, lint, types and architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest -q tests/unit/test_architecture.py

# Installs the libraries to compare with. They use the same constraints, and so the same torch.
$(VENV)/bench-installed: $(VENV)/installed
	@echo "Installing the libraries to compare with into $(VENV)…"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	@touch $@

ALONE := inspection upload starts metrics_range hostile
bench: $(VENV)/bench-installed  ## benchmark training against TRL and transformers, then the service (an hour; BENCH=--quick: ten minutes)
	@$(BIN)/python -m benchmarks $(BENCH)
	@$(if $(BENCH),,for name in $(ALONE); do $(BIN)/python -m benchmarks.$$name --output benchmarks/results/$$name.json || exit 1; done)

bench-api: $(VENV)/installed  ## benchmark polls and posts against bare handlers (four minutes; needs wrk)
	@$(BIN)/python -m benchmarks.api

bench-page: $(VENV)/page-installed  ## benchmark the web page in Chromium over a real stack (fifteen minutes; needs 5 GB)
	@$(BIN)/python -m benchmarks.page --output benchmarks/results/page.json

up: $(VENV)/installed  ## start the local stack in the foreground
	@$(BIN)/tunewright up $(if $(DATA_DIR),--data-dir $(DATA_DIR))

format: $(VENV)/installed  ## format the code and fix lint errors
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove everything that make has installed
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
