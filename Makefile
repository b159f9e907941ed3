# Every target works in a fresh checkout with git, make and python3 (3.11 or newer).
# `make help` lists the targets.

PYTHON ?=
VENV ?= .venv
WHEEL_VENV ?= .venv-wheel
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

# The sweep and the soak use every available database, unless DATABASE is set.
named_database = $(if $(filter file,$(origin DATABASE)),,--database $(DATABASE))

# REQUIRE_DATABASES: databases that must be available, for example postgres,mariadb.
export REQUIRE_DATABASES REQUIRE_PACKAGES MATRIX_TESTS WORKERS PAIRS E2E

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-databases test-wheel test-all parity coverage check lint types contracts documents format screenshots bench sweep soak matrix lock clean environment demo-environment

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

demo: demo-environment ## serve an example project with pending migrations (PORT=8000 DATABASE=sqlite|postgres)
	$(DEMO_VENV)/bin/python example/demo.py --port $(PORT) --database $(DATABASE)

test: environment ## run the tests without the slow ones (TESTS="tests/ledger -k chain" WORKERS=3 REQUIRE_DATABASES=postgres,mariadb)
	E2E=$(or $(E2E),few) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(if $(TESTS),$(TESTS),-m "not slow and not browser")

test-slow: environment ## run the slow tests and those in a browser
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "slow or browser"

test-databases: environment ## run the tests of the packages on each other database
	$(BIN)/python tools/test-databases -q -n $(WORKERS) --dist worksteal

test-all: environment ## run every test, end to end on every server and database, then on each database
	E2E=$(or $(E2E),all) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
	$(MAKE) test-databases

test-wheel: environment ## run the quick tests against the wheel, as users install it
	WHEEL=yes PACKAGES=$(VENV) tools/make-venv $(WHEEL_VENV) $(BIN)/python
	REQUIRE_WHEEL=yes $(WHEEL_VENV)/bin/python -m pytest -n $(WORKERS) --dist worksteal $(if $(TESTS),$(TESTS),-m "not slow and not browser and not e2e")

parity: environment ## compare statements, schema and outcome with those of manage.py migrate
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal tests/planning/test_lazy_states.py tests/planning/test_lazy_states_property.py tests/planning/test_parity.py tests/planning/test_parity_code.py tests/planning/test_parity_features.py tests/outcome

coverage: environment ## measure the branch coverage of the quick tests, with the processes that they start
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow and not browser and not e2e" --cov --cov-report=term

check: lint types contracts documents ## lint, types, import contracts and documents (-k: report all faults)

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
	$(BIN)/python tools/check-prose
	$(BIN)/codespell

format: environment ## fix and format with ruff
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

screenshots: environment ## take pictures of the staff pages in every state (FOLDER=screenshots DATABASE=postgres STORIES="pending failed")
	$(BIN)/python -m tests.screenshots --folder $(or $(FOLDER),screenshots) $(named_database) $(STORIES)

bench: environment ## run the benchmarks
	$(BIN)/python -m benchmarks

sweep: environment ## inject faults into a run at every instant (DATABASE=postgres EVERY=10 STRIKES=killed,partitioned,frozen TARGETS=worker JOBS=2)
	$(BIN)/python -m tests.sweep $(named_database) --every $(EVERY) --strikes $(STRIKES) --targets $(TARGETS) --jobs $(JOBS)

soak: environment ## let clients on two servers race for many runs (DATABASE=postgres RUNS=200)
	$(BIN)/python -m tests.soak $(named_database) --runs $(RUNS)

matrix: ## run the tests on every available pair of Python and Django (PAIRS="3.11:5.2" MATRIX_TESTS="not slow")
	tools/matrix

lock: ## pin requirements/ again from pyproject.toml; needs uv (LOCK_FLAGS=--upgrade for newer versions)
	tools/lock $(LOCK_FLAGS)

clean: ## remove environments, caches and the output of the demo and the tests
	rm -rf $(VENV) $(WHEEL_VENV) $(DEMO_VENV) .matrix .demo build dist test-results htmlcov .coverage
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .schemathesis
	find src tests $(wildcard example benchmarks) -name __pycache__ -type d -prune -exec rm -rf {} +

# Compiled, as an installed package is: processes of a project would compile it each time
# where PYTHONDONTWRITEBYTECODE is set.
environment:
	@tools/make-venv $(VENV) "$(PYTHON)" requirements/dev.txt
	@$(BIN)/python -m compileall -q src

demo-environment:
	@tools/make-venv $(DEMO_VENV) "$(PYTHON)" requirements/demo.txt
