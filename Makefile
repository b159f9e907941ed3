# Everything works from a fresh checkout: git, make and a python3 (3.11 or newer) are enough.
# `make help` lists the targets.

PYTHON ?=
VENV ?= .venv
DEMO_VENV ?= .venv-demo
BIN := $(VENV)/bin
PORT ?= 8000
DATABASE ?= sqlite
WORKERS ?= 3
TESTS ?=
MATRIX_TESTS ?=
EVERY ?= 1
TARGETS ?= supervisor,worker,backend
STRIKES ?= killed,partitioned,frozen
JOBS ?= 1
RUNS ?= 200
LOCK_FLAGS ?=

# The sweep and the soak take every database that is here, unless one is named.
named_database = $(if $(filter file,$(origin DATABASE)),,--database $(DATABASE))

# Databases that must be there, for example postgres,mariadb; the tests read it.
export REQUIRE_DATABASES REQUIRE_PACKAGES MATRIX_TESTS WORKERS PAIRS WALKS

.DEFAULT_GOAL := help
.PHONY: help demo test check lint types contracts documents format bench sweep soak matrix lock clean environment demo-environment

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

demo: demo-environment ## serve an example project with pending migrations (PORT=8000 DATABASE=sqlite|postgres)
	$(DEMO_VENV)/bin/python example/demo.py --port $(PORT) --database $(DATABASE)

test: environment ## run the tests (TESTS="tests/ledger -k chain" WORKERS=3 REQUIRE_DATABASES=postgres,mariadb)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(TESTS)
ifeq ($(TESTS),)
	$(BIN)/python tools/test-databases -q -n $(WORKERS) --dist worksteal
endif

check: lint types contracts documents ## everything that a change has to pass beside the tests (-k: tell all faults)

lint: environment
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: environment
	$(BIN)/python -m mypy $(wildcard src tests benchmarks)

contracts: environment
	$(BIN)/lint-imports --no-logo

documents: environment
	$(BIN)/python tools/check-docs
	$(BIN)/python tools/make-reference --check

format: environment ## let ruff correct what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: environment ## run the benchmarks
	$(BIN)/python -m benchmarks

sweep: environment ## strike a run at every instant (DATABASE=postgres EVERY=10 STRIKES=killed,partitioned,frozen TARGETS=worker JOBS=2)
	$(BIN)/python -m tests.sweep $(named_database) --every $(EVERY) --strikes $(STRIKES) --targets $(TARGETS) --jobs $(JOBS)

soak: environment ## race clients on two servers through many runs (DATABASE=postgres RUNS=200)
	$(BIN)/python -m tests.soak $(named_database) --runs $(RUNS)

matrix: ## run the tests on every pair of Python and Django here (PAIRS="3.11:5.2" MATRIX_TESTS="not slow")
	tools/matrix

lock: ## pin requirements/ anew from pyproject.toml; needs uv (LOCK_FLAGS=--upgrade for newer versions)
	tools/lock $(LOCK_FLAGS)

clean: ## remove environments, caches and what the demo and the tests wrote
	rm -rf $(VENV) $(DEMO_VENV) .matrix .demo build dist test-results htmlcov .coverage
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .schemathesis
	find src tests $(wildcard example benchmarks) -name __pycache__ -type d -prune -exec rm -rf {} +

environment:
	@tools/make-venv $(VENV) "$(PYTHON)" requirements/dev.txt

demo-environment:
	@tools/make-venv $(DEMO_VENV) "$(PYTHON)" requirements/demo.txt
