# Every job of the project by name. CI, the hooks and the documents call only these.
.DEFAULT_GOAL := help

BIN := .venv/bin
POETRY := .cache/poetry/bin/poetry
# One word a folder of tests/, the slowest first: what begins last keeps the others waiting.
TIERS := crash acceptance integration simulation conformance unit
# What follows the command: make test-unit ARGS="-k fold", make dev ARGS=--verbose
ARGS ?=

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: install
install: .venv/.installed ## Set up .venv with Poetry's lock, and Poetry itself in .cache

.venv/.installed: pyproject.toml poetry.lock scripts/install
	@scripts/install
	@touch $@

# --- see it work -------------------------------------------------------------

# The recipes below are one command each, so that make waits for it and hands on a signal.
.PHONY: demo
demo: install ## Run sample tasks on Apache Kafka and PostgreSQL, started here as child processes
	@$(BIN)/orchestrator demo $(ARGS)

.PHONY: dev
dev: install ## Run the service with all it needs, until Ctrl-C; data stays in .orchestrator
	@$(BIN)/orchestrator dev $(ARGS)

.PHONY: bench
bench: install ## Measure throughput and latency beside the bare, non-durable loop
	@$(BIN)/python -m bench $(ARGS)

.PHONY: chaos
chaos: install ## Break the service in every way of docs/reliability.md, and look at what is left
	@$(BIN)/python -m chaos $(ARGS)

# Of the soak.
MINUTES ?= 30

.PHONY: soak
soak: install ## Run a steady load for MINUTES (30): memory, connections, sizes and backlogs must not grow
	@$(BIN)/python -m chaos.soak --minutes $(MINUTES) $(ARGS)

.PHONY: up
up: ## Run the service in containers (docker compose)
	@docker compose up --build $(ARGS)

# --- test --------------------------------------------------------------------

.PHONY: test
test: install ## Run all tests: unit, conformance, simulation, integration, acceptance, crash
	@$(BIN)/python -m pytest $(TIERS:%=tests/%) --numprocesses=3 --dist=loadfile --no-loadscope-reorder $(ARGS)

.PHONY: test-unit
test-unit: install ## Run the tests without I/O, in seconds
	@$(BIN)/python -m pytest tests/unit $(ARGS)

.PHONY: test-conformance
test-conformance: install ## Run one suite per interface, on fake and real implementations
	@$(BIN)/python -m pytest tests/conformance $(ARGS)

.PHONY: test-simulation
test-simulation: install ## Run the real engine on a clock that jumps, with faults at every seam
	@$(BIN)/python -m pytest tests/simulation $(ARGS)

.PHONY: test-integration
test-integration: install ## Run the parts on real Kafka and PostgreSQL
	@$(BIN)/python -m pytest tests/integration $(ARGS)

.PHONY: test-acceptance
test-acceptance: install ## Run the main job through the topics only
	@$(BIN)/python -m pytest tests/acceptance $(ARGS)

.PHONY: test-crash
test-crash: install ## Kill, freeze and cut off processes in the middle of work
	@$(BIN)/python -m pytest tests/crash $(ARGS)

.PHONY: simulate
simulate: install ## Simulate 100,000 tasks, a seed each 200; a seed that fails is printed: ARGS="--tasks 20000 --seed 7"
	@$(BIN)/python -m tests.simulation $(ARGS)

# --- check -------------------------------------------------------------------

.PHONY: check
check: lint types layers house lock migrations ## Run every check below

.PHONY: format
format: install ## Format the code and apply the linter's safe fixes
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

.PHONY: lint
lint: install ## Check style and format (ruff)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

.PHONY: types
types: install ## Check types (mypy --strict)
	@$(BIN)/mypy

.PHONY: layers
layers: install ## Check that imports go downward and each library stays in its home (import-linter)
	@$(BIN)/lint-imports

.PHONY: house
house: install ## Check sizes of files and functions, and what tests may not do (scripts/checks)
	@$(BIN)/python -m scripts.checks.sizes
	@$(BIN)/python -m scripts.checks.words

.PHONY: lock
lock: install ## Check that poetry.lock fits pyproject.toml
	@$(POETRY) check --lock --strict

.PHONY: migrations
migrations: install ## Check that the migrations build exactly the tables that the code declares (alembic check)
	@$(BIN)/python -m scripts.checks.migrations

.PHONY: clean
clean: ## Remove what make built; the data in .orchestrator stays
	@rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
