.DEFAULT_GOAL := help
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help
help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' Makefile

$(READY): pyproject.toml uv.lock scripts/setup scripts/find-python
	@scripts/setup
	@touch $@

.PHONY: setup
setup: $(READY) ## Make .venv from uv.lock (needs Python >= 3.11 alone)

.PHONY: run
run: $(READY) ## Serve on 127.0.0.1:50051, with the embedded PostgreSQL unless KNOWLEDGED_DATABASE_URL is set
	@$(BIN)/knowledged serve

.PHONY: demo
demo: $(READY) ## Import 16,449 medical terms, search them, show the audit trail
	@$(BIN)/knowledged demo

.PHONY: test
test: $(READY) ## Run every test but the slow ones and the benchmarks
	$(BIN)/pytest -n 3 -m "not slow and not bench"

.PHONY: test-fast
test-fast: $(READY) ## Run the tests that need no database
	$(BIN)/pytest -m "not slow and not bench" tests/unit

.PHONY: lint
lint: $(READY) ## Check style, types, import rules, migrations, protos and stubs
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/basedpyright
	$(BIN)/lint-imports --no-logo
	$(BIN)/squawk migrations/*.sql
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	scripts/protos-drift

.PHONY: protos
protos: $(READY) ## Write the stubs in generated/ anew from protos/
	scripts/protos

.PHONY: migrate
migrate: $(READY) ## Apply migrations/ to KNOWLEDGED_DATABASE_URL, or to the embedded PostgreSQL
	$(BIN)/knowledged migrate

.PHONY: bench
bench: $(READY) ## Measure against the targets
	$(BIN)/python -m benchmarks

.PHONY: bench-short
bench-short: $(READY) ## The same in under three minutes
	$(BIN)/python -m benchmarks --short

.PHONY: bench-quality
bench-quality: $(READY) ## Measure how well searches find (nDCG@10)
	$(BIN)/python -m benchmarks --quality

.PHONY: bench-searches
bench-searches: $(READY) ## Measure searches of 100,000 texts: plain, filtered, hybrid, batched
	$(BIN)/python -m benchmarks --searches

.PHONY: image
image: ## Build the container image (needs Docker; scripts/image-steps tries its steps without)
	docker build --tag knowledged .
