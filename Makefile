# `make` lists the targets. PYTHON, PORT, JOBS and PIP_ARGS can be set: make quickstart PYTHON=python3.12

PYTHON ?= python3
PORT ?= 5000
# test processes at a time: one more than cores, since tests also wait; at most 8
JOBS ?= $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)')
PIP_ARGS ?= $(if $(CI),--quiet)

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL = $(BIN)/python -m pip install --disable-pip-version-check $(PIP_ARGS) --constraint constraints.txt
PINS := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install quickstart ui test install-test lint format unit reference docs \
	test-slow test-gpu test-browser test-postgres test-slurm test-ray test-docker secrets user remove-user backup restore constraints clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

# ---- use

quickstart: install  ## install, sweep grids/quickstart.yaml, show the leaderboard
	@$(BIN)/lab sweep grids/quickstart.yaml

ui: install  ## serve the MLflow UI for the runs in .lab (PORT=5000)
	@exec $(BIN)/lab ui --no-open --port $(PORT)

install: $(VENV)/.installed  ## create .venv with the pinned versions

# ---- test

test: lint unit  ## install, then run lint, type checks, import layers and the default tests

install-test: $(VENV)/.installed-test

lint: install-test  ## run ruff, mypy and the import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict lab examples
	$(BIN)/lint-imports

format: install-test  ## format the code with ruff and fix what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# one thread each: two processes that each use all cores are slower than one; worksteal: a process finishes its own
# share of the files, and so reuses their fixtures, before it takes over others
# the bytecode of the tests is kept: compiling them again takes each process eight seconds
unit: export PYTHONDONTWRITEBYTECODE :=
unit: install-test  ## run the default tests, in parallel (JOBS=2)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --maxprocesses 8 --dist worksteal

# Only files with the tier's marker are collected: all of them take twenty seconds. A conftest.py stands for its folder.
# pytest exits with 5 if a tier has no tests yet; that is not a failure
define tier
	@files=$$(grep -rl --include='*.py' 'mark\.$(firstword $(1))\b' tests | sed 's,/conftest\.py$$,,' | sort); \
	OMP_NUM_THREADS=1 $(BIN)/pytest $(2) -m '$(1)' $$files || { code=$$?; [ $$code -eq 5 ] && echo 'no tests are marked: $(1)' || exit $$code; }
endef

test-slow: install-test  ## run the tests that take more than ten seconds
	$(call tier,slow and not gpu and not docker and not browser and not postgres and not slurm and not ray,-n $(JOBS) --maxprocesses 2 --dist loadfile)

test-gpu: install-test  ## run the tests that need a CUDA device
	$(call tier,gpu)

test-browser: install-test  ## run the tests that need Debian's chromium and chromium-driver
	$(call tier,browser and not docker)

test-postgres: install-test  ## run the tests that need Debian's postgresql
	$(call tier,postgres and not docker and not slurm and not ray,-n $(JOBS) --maxprocesses 2 --dist loadfile)

test-slurm: install-test  ## run the tests that need a running Slurm
	$(call tier,slurm)

test-ray: install-test  ## install Ray, and run the tests that need it
	@$(PIP_INSTALL) --quiet --editable '.[ray]'
	$(call tier,ray)

test-docker: install-test  ## run the tests that need a Docker engine
	$(call tier,docker)

# ---- documents

reference: install-test  ## write the tables of docs/reference from the code
	$(BIN)/cog -r -P -I docs -p 'from tables import *' docs/reference/*.md

docs: install-test  ## build the site of the documents in site/
	@rm -rf site
	@$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs site
	@echo 'Open site/index.html'

# ---- the service of docker/compose.yaml

secrets:  ## create passwords and .env for the service; then: docker compose up -d
	@docker/secrets.sh

user:  ## NAME=ann: create her accounts in MLflow and PostgreSQL, to submit and train
	@docker/user.sh $@

remove-user:  ## NAME=ann: remove her accounts
	@docker/user.sh $@

backup:  ## back up the service's databases and artifacts to backups/ (TO=folder, KEEP=7)
	@docker/backup.sh

restore:  ## FROM=backups/…: restore a backup into an empty service
	@docker/restore.sh

# ---- upkeep

constraints: install-test  ## write the versions installed in .venv to constraints.txt
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --editable '.[gpu,metrics,notify,onnx,postgres,ray,serve,service,slurm,timm,test]'
	@{ sed '/^[^#]/,$$d' constraints.txt; \
		$(BIN)/python -m pip --disable-pip-version-check freeze --all --exclude pip --exclude-editable \
		| sed 's/+[a-z0-9.]*$$//'; } > constraints.new
	@mv constraints.new constraints.txt

clean:  ## remove .venv and all caches; runs and studies in .lab stay
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "lab needs Python 3.11 or newer, but $(PYTHON) is: $$($(PYTHON) --version 2>&1 | head -n 1)"; \
		echo "Choose another one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: $(PINS) | $(BIN)/python
	@echo "Installing into $(VENV); the first time takes a minute or two"
	@$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/.installed-test: $(PINS) | $(BIN)/python
	@echo "Installing into $(VENV) with the test tools; the first time takes a minute or two"
	@$(PIP_INSTALL) --editable '.[docs,postgres,serve,slurm,test]'
	@touch $(VENV)/.installed $@
