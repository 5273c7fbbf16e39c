# Every target sets up what it needs by itself: environments, the Firebase CLI, Java, emulators.
# Wanted of the machine: Python 3.11 or newer, Node 20 or newer (for all but `check`), and make.

PYTHON ?= python3
# Handed on to pytest: make test ARGS="tests/unit -k ledger"
ARGS ?=
# emulators or local; if empty, emulators where they can be had
ENGINE ?=
# How much of `make chaos`: seeds first..last of 20 histories each, batches through the runner,
# frozen processes; of agents: killed processes, sessions taken, seconds cut off and flat out; of
# migrations: how many, records of each, kills in all; rounds of two roll-ups; bad messages, small
# ones and large ones; interrupted calls: timer signals, signals of each kind to processes, and every
# how many lines of a call. `make test` takes a share of each: tests/chaos/settings.py says which.
SEEDS ?= 0..149
BATCHES ?= 100
ROUNDS ?= 50
KILLS ?= 200
TAKEN ?= 100
SECONDS ?= 30
MIGRATION ?= 5,4000,100
FOLDS ?= 200
BAD ?= 5000,20
INTERRUPTED ?= 100000,500,1

# Of `make deploy`: where to, and YES=1 not to be asked.
PROJECT =
YES =

RUN := .venv/bin/python -m
# Where the whole suite is run, it is run by several processes.
WORKERS := -p tests.workers -n auto
CODE := $(wildcard shared/firestate functions tools tests benchmarks)

.DEFAULT_GOAL := help
.PHONY: help demo quick test test-pythons chaos check deploy emulators setup setup-python python clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /  make \1\t/p' Makefile | expand -t 20

demo: python ## Watch the pipeline at work on emulators; ENGINE=local needs Python alone
	@$(PYTHON) -m tools.demo $(ENGINE)

quick: setup-python ## Run the tests that need Python alone, unit and local; ARGS="..." goes to pytest
	@$(RUN) pytest $(WORKERS) tests/unit tests/local $(ARGS)

test: setup ## Run all tests; ARGS="..." goes to pytest
	@$(RUN) pytest $(WORKERS) $(ARGS)

test-pythons: setup-python ## Run the tests of `quick` on the other Pythons that are found here
	@$(RUN) tools.pythons $(WORKERS) $(ARGS)

chaos: setup ## Faults by the thousand; SEEDS=first..last, BATCHES, ROUNDS, KILLS, TAKEN, SECONDS, MIGRATION, FOLDS, BAD, INTERRUPTED
	@CHAOS_SEEDS=$(SEEDS) CHAOS_BATCHES=$(BATCHES) CHAOS_ROUNDS=$(ROUNDS) CHAOS_KILLS=$(KILLS) \
	  CHAOS_TAKEN=$(TAKEN) CHAOS_SECONDS=$(SECONDS) CHAOS_MIGRATION=$(MIGRATION) \
	  CHAOS_FOLDS=$(FOLDS) CHAOS_BAD=$(BAD) CHAOS_INTERRUPTED=$(INTERRUPTED) \
	  $(RUN) pytest tests/chaos tests/interruptions -s $(ARGS)

check: setup-python ## Lint, formatting, types; known vulnerabilities and secrets
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy $(CODE)
	@$(RUN) tools.security_scan

deploy: python ## Deploy to Google Cloud: PROJECT=my-project; says what it touches, and asks
	@test -n "$(PROJECT)" || { echo 'Which project? make deploy PROJECT=my-project' >&2; exit 2; }
	@test -z "$(filter-out 1,$(YES))" || { echo 'YES=1 asks nothing; leave it out to be asked.' >&2; exit 2; }
	@$(PYTHON) -m tools.setup deploy
	@$(RUN) tools.deploy "$(PROJECT)" $(if $(YES),--yes)

emulators: setup ## Run the emulators with the functions until Ctrl-C
	@$(RUN) tools.emulators serve

setup: python ## Only set up
	@$(PYTHON) -m tools.setup

setup-python: python
	@$(PYTHON) -m tools.setup python

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo 'Firestate needs Python 3.11 or newer: install it, or name one, as in make PYTHON=python3.12 test.' >&2; exit 1; }

clean: ## Remove everything that make has made
	@rm -rf .venv .venv-frameworks .cache node_modules functions/venv functions/firestate
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
