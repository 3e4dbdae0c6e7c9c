# Every target sets up what it needs; `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NEWEST := $(VENV)-newest
NEWEST_TESTS ?= -n 3 --dist loadfile --no-loadscope-reorder
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps
NO_INDEX := { echo "The locked packages could not be installed: see the lines above. Is the package index reachable? (PIP_INDEX_URL names another one.) Then run the same command again." >&2; exit 1; }

.PHONY: help demo dev test test-slow test-long test-faults test-fortnight test-newest bench bench-scale lint audit-dependencies lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 28

$(VENV)/.runtime: requirements.lock requirements-reference.lock pyproject.toml deploy/check_python.sh
	@deploy/check_python.sh $(PYTHON)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the locked dependencies into $(VENV) (about 90 seconds the first time) ..."
	@$(PIP) --require-hashes -r requirements.lock -r requirements-reference.lock || $(NO_INDEX)
	@$(PIP) --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock requirements-panel.lock
	@echo "Installing the locked test tools into $(VENV) ..."
	@$(PIP) --require-hashes -r requirements-dev.lock || $(NO_INDEX)
	@$(PIP) --require-hashes --only-binary :all: --upgrade --target $(VENV)/panel -r requirements-panel.lock || echo "No example data of real returns for this Python: the tests that read them are skipped." >&2
	@touch $@

demo: $(VENV)/.runtime ## the four demo portfolios, all history, from nothing to a summary
	@$(BIN)/sigmasight demo

dev: $(VENV)/.runtime ## the Dagster UI and daemon on the same database
	@$(BIN)/sigmasight dev

test: $(VENV)/.dev ## the whole test suite
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/.dev ## the tests that take minutes
	@$(BIN)/python -m pytest -m slow

test-long: $(VENV)/.dev ## ten years as one backfill through the daemon, killed twice on the way
	@SIGMASIGHT_FIRST_SESSION=2014-01-02 $(BIN)/python -m pytest -m long -s sigmasight_pipeline_tests/end_to_end/test_long_backfill.py

test-faults: $(VENV)/.dev ## every command killed at every commit, before or after it, and run again (half an hour)
	@$(BIN)/python -m pytest -vv -m slow -n 2 --dist load sigmasight_pipeline_tests/faults

test-fortnight: $(VENV)/.dev ## ten evenings through the real daemon, with late prices, corrections and kills (about 10 minutes)
	@$(BIN)/python -m pytest -m slow -s sigmasight_pipeline_tests/end_to_end/test_fortnight.py

test-newest: ## the suite with the newest releases pyproject.toml allows, in an environment of its own (needs uv)
	@test -x $(NEWEST)/bin/python || $(PYTHON) -m venv $(NEWEST)
	uv pip install --quiet --python $(NEWEST)/bin/python --upgrade hatchling editables
	uv pip install --quiet --python $(NEWEST)/bin/python --upgrade --no-build-isolation-package sigmasight-pipeline -e '.[dev,reference]'
	@$(NEWEST)/bin/python -m pytest $(NEWEST_TESTS)

bench: $(VENV)/.dev ## seconds per stage, rows per second, ratios against named peers
	@$(BIN)/python -m sigmasight_pipeline_tests.benchmarks

bench-scale: $(VENV)/.dev ## whole histories of up to 10,000 positions: seconds, memory, disk, where the time goes (half an hour)
	@$(BIN)/python -m sigmasight_pipeline_tests.benchmarks.scale

lint: $(VENV)/.dev ## ruff and the type checker
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

audit-dependencies: $(VENV)/.runtime ## known vulnerabilities of the locked packages (asks pypi.org)
	@PYTHON=$(BIN)/python deploy/audit_dependencies.sh

lock: $(VENV)/.dev ## renew the lock files (needs uv)
	@printf 'hatchling\neditables\n' > $(VENV)/build.in
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate --no-strip-extras --python-version 3.11 pyproject.toml $(VENV)/build.in -o requirements.lock
	printf 'skfolio\narch\n' | uv pip compile --quiet --universal --no-deps --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.11 - -o requirements-panel.lock
	@# what the extra `reference` adds to them: the image goes without it
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["reference"], sep="\n")' > $(VENV)/reference.in
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate --no-deps --python-version 3.11 -c requirements.lock $(VENV)/reference.in -o requirements-reference.lock
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate --no-strip-extras --python-version 3.11 --extra dev --extra reference -c requirements.lock -c requirements-reference.lock pyproject.toml $(VENV)/build.in -o requirements-dev.lock

clean: ## remove the environment and caches (state stays: `sigmasight reset` removes it)
	rm -rf $(VENV) $(NEWEST) .mypy_cache .ruff_cache .pytest_cache .hypothesis
