# Camfleet's commands. `make help` lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo cluster cluster-down images test faults lint format bench bench-scale bench-moves crds chart docs lock clean

help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit("Camfleet needs Python 3.11 or 3.12; this is " + sys.version.split()[0] + " (set PYTHON=python3.12, say)" if sys.version_info[:2] not in ((3, 11), (3, 12)) else 0)'
	@echo "Installing Camfleet and its dependencies into $(VENV) (once)…"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements.lock \
		| awk '/^Collecting/ {printf "\r  %d packages", ++n; fflush()} /^Installing/ {printf ", installing…"; fflush()} END {print ""}'
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY) ## Cameras, faces and the page on this machine; CAMFLEET_PORT=8080
	@exec $(BIN)/camfleet demo --dir demo

cluster: $(READY) ## A Kubernetes cluster with Camfleet: kind with Docker, else processes (root)
	@$(BIN)/python -m tests.testbed up

cluster-down: $(READY) ## Away with that cluster
	@$(BIN)/python -m tests.testbed down

images: $(READY) ## Build the three images without Docker, into the cache folder (root)
	@$(BIN)/python -m tests.testbed.images

# How many at once; most of them wait most of the time. 0 runs one after the other, and shows what they print.
TEST_PROCESSES ?= 3

test: $(READY) ## All tests that this machine can run; CAMFLEET_REQUIRE=all makes skips failures
	@$(BIN)/python -m pytest --numprocesses=$(TEST_PROCESSES) $(PYTEST_ARGS)

faults: $(READY) ## The tests of tests/faults at full length (over an hour), with the times of docs/fault-matrix.md
	@CAMFLEET_REQUIRE=all CAMFLEET_FAULTS=full $(BIN)/python -m pytest tests/faults tests/e2e/test_events_survive.py $(PYTEST_ARGS)

lint: $(READY) ## ruff, mypy, import-linter, lock file
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY) ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(READY) ## Benchmarks; results and machine go into bench/README.md by hand
	@for b in bench/bench_*.py; do echo "== $$b"; $(BIN)/python $$b || exit 1; done

bench-scale: $(READY) ## Thousands of Cameras on a control plane of processes; SCALE_ARGS="--sizes 500 --naive"
	@$(BIN)/python -m bench.scale $(SCALE_ARGS)

bench-moves: $(READY) ## 5,000 Cameras judged, and twenty nodes lost at once; MOVES_ARGS="--cameras 500 --nodes 20 --lost 4"
	@$(BIN)/python -m bench.scale.moves $(MOVES_ARGS)

crds: $(READY) ## Write the CRDs and docs/reference.md anew from the models
	@$(BIN)/python -m crds.generate

chart: $(READY) ## Write the dashboards anew, and bring the chart's copies and its table of values up to date
	@$(BIN)/python -m monitoring.generate
	@$(BIN)/python charts/refresh.py

docs: $(READY) ## Write the tables of docs/metrics.md anew from the programs' metrics
	@$(BIN)/python -m monitoring.metrics_page

COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet
# What an image installs is a part of requirements.lock: same versions, only its program's packages.
PART    := $(COMPILE) --no-annotate --constraints requirements.lock

lock: ## Resolve the lock files anew (needs uv)
	$(COMPILE) pyproject.toml --extra dev --output-file requirements.lock
	echo hatchling | $(PART) - --output-file requirements-build.lock
	$(PART) pyproject.toml --extra operator --output-file operator/requirements.lock
	for part in gateway:gateway worker:worker_image; do \
		sed -n 's/^opencv-python==\([^ ]*\).*/opencv-python-headless==\1/p' requirements.lock \
		| $(PART) pyproject.toml - --extra $${part%:*} --no-emit-package opencv-python --output-file $${part#*:}/requirements.lock; \
	done

clean: ## Remove the virtual environment and the demo's folder
	rm -rf $(VENV) demo
