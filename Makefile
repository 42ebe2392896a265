# `make` lists the verbs. The environment is .venv in this folder; scripts/setup.py makes it and keeps it up to date.

PYTHON ?= python3
BIN := .venv/bin
# The tests have a data folder of their own, which keeps the starter models between runs.
TEST_HOME := $(or $(COE_TEST_HOME),$(CURDIR)/.cache/coe)
# Two files at a time, in the order of tests/conftest.py.
BESIDE := -n 2 --dist loadfile --no-loadscope-reorder
# Arguments may choose no test of one ring, which is pytest's exit code 5.
NONE := $(if $(ARGS),|| test $$? = 5)

.DEFAULT_GOAL := help
.PHONY: help setup serve test test-fast lint console console-check lock audit clean

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make .venv with everything in locked versions (PYTHON=python3.12 names another Python)
	@$(PYTHON) scripts/setup.py

serve: setup ## set up, then serve in the foreground (ARGS="--port 9000" is handed on)
	@$(BIN)/coe setup
	@exec $(BIN)/coe serve $(ARGS)

test: lint ## lint, then run all tests (ARGS="-k name" is handed to pytest)
	@COE_HOME="$(TEST_HOME)" $(BIN)/coe setup
	@COE_TEST_HOME="$(TEST_HOME)" $(BIN)/python -m pytest $(BESIDE) -m "not service and not engine and not browser" $(ARGS) $(NONE)
	@COE_TEST_HOME="$(TEST_HOME)" $(BIN)/python -m pytest $(BESIDE) -m "service and not engine and not browser" $(ARGS) $(NONE)
	@COE_TEST_HOME="$(TEST_HOME)" $(BIN)/python -m pytest -m "browser" $(ARGS) $(NONE)
	@COE_TEST_HOME="$(TEST_HOME)" $(BIN)/python -m pytest $(BESIDE) -m "engine" $(ARGS) $(NONE)

test-fast: ## run the tests that start neither a service, an engine nor a browser
	@$(PYTHON) scripts/setup.py --dev
	@$(BIN)/python -m pytest $(BESIDE) -m "not service and not engine and not browser" $(ARGS)

lint: ## ruff and mypy
	@$(PYTHON) scripts/setup.py --dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

console: ## build the web console (takes Node.js); its built files are a part of the repository
	@$(PYTHON) scripts/console.py

console-check: ## are the built files of the web console what its sources make? (takes Node.js)
	@$(PYTHON) scripts/console.py --check

lock: setup ## write requirements/cpu.lock anew (ARGS=--upgrade for the newest versions)
	@$(BIN)/python scripts/lock.py $(ARGS)

audit: ## ask OSV for known faults of the locked packages (ARGS=--strict fails where it cannot be asked)
	@$(PYTHON) scripts/audit.py $(ARGS)

clean: ## remove .venv, caches and the tests' data folder
	rm -rf .venv .cache artifacts console/node_modules build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
