# The commands for development. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PROTOS := $(wildcard proto/stepwave/v1/*.proto)
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Container images often set it. The tests start hundreds of processes, and each would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

.PHONY: setup
setup: $(STAMP) ## Create the virtual environment in .venv and install everything

.PHONY: demo
demo: $(STAMP) ## Start a server, run the briefing example with the live view, and compare parallel with sequential time
	@$(BIN)/python client/examples/briefing/demo.py

.PHONY: demo-temporal
demo-temporal: $(STAMP) ## Run the briefing on Temporal, with two servers and two hosts, and kill one of each in mid-run
	@$(BIN)/python client/examples/briefing/demo_temporal.py

.PHONY: test
test: $(STAMP) ## Run all tests in parallel, three processes for two cores: many of them mostly wait. As root, install what they need from Debian
	tests/conformance/install.sh
	tests/integration/deploy/install.sh
	tests/polyglot/install.sh
	$(BIN)/python -m pytest -n $$((3 * $$(getconf _NPROCESSORS_ONLN) / 2)) --dist worksteal

.PHONY: polyglot
polyglot: $(STAMP) ## Run only the tests from other languages
	tests/polyglot/install.sh
	$(BIN)/python -m pytest -n auto --dist worksteal tests/polyglot

.PHONY: soak
soak: $(STAMP) ## Kill a server repeatedly under load for STEPWAVE_SOAK_MINUTES (default: 10), and check that nothing is lost
	$(BIN)/python -m pytest -s tests/integration/durable/soak.py

.PHONY: fuzz
fuzz: $(STAMP) ## Send STEPWAVE_FUZZ mutations of each call (default: 3000) to a server: clean codes, no defects
	STEPWAVE_FUZZ=$${STEPWAVE_FUZZ:-3000} STEPWAVE_SEED=$${STEPWAVE_SEED:-$$(date +%s)} $(BIN)/python -m pytest -n auto --timeout 1200 tests/integration/hostile

.PHONY: soak-temporal
soak-temporal: $(STAMP) ## Kill servers, hosts and Temporal under load for STEPWAVE_SOAK_MINUTES (default: 10): nothing is lost; time how soon runs go on
	$(BIN)/python -m pytest -s tests/conformance/soak.py

.PHONY: check
check: $(STAMP) ## Check format, lint, types, import contracts, generated code and the gRPC contract
	ruff format --check
	ruff check
	mypy
	lint-imports
	$(MAKE) --no-print-directory proto-check
	buf lint proto
	buf format --diff --exit-code proto
	$(MAKE) --no-print-directory proto-breaks

.PHONY: format
format: $(STAMP) ## Format the code, and fix lint errors where possible
	ruff check --fix
	ruff format
	buf format --write proto

GENERATE = python -m grpc_tools.protoc -I proto --python_out=$(1) --grpc_python_out=$(1) --mypy_out=$(1) --mypy_grpc_out=$(1) $(PROTOS) && \
  python -m grpc_tools.protoc -I proto --include_imports --descriptor_set_out=$(1)/stepwave/v1/descriptor_set.binpb $(PROTOS) && \
  python server/deploy/http_descriptors.py $(1)/stepwave/v1/descriptor_set.binpb $(2)

.PHONY: proto
proto: $(STAMP) ## Generate client/stepwave/v1 and server/deploy/http.binpb from proto/
	$(call GENERATE,client,server/deploy/http.binpb)

IMAGE = dist/stepwave.binpb

.PHONY: proto-image
proto-image: $(STAMP) ## Write the contract as a descriptor set with its imports and comments to IMAGE (default: dist/stepwave.binpb)
	@mkdir -p $(dir $(IMAGE))
	buf build proto --as-file-descriptor-set --output $(IMAGE)

.PHONY: proto-check
proto-check: $(STAMP) # Fail if the generated code does not match proto/
	@out=$$(mktemp -d); trap 'rm -rf "$$out"' EXIT; $(call GENERATE,"$$out","$$out/http.binpb"); \
	diff -r --exclude=__init__.py --exclude=__pycache__ "$$out/stepwave/v1" client/stepwave/v1 \
	  || { echo 'client/stepwave/v1 does not match proto/: run make proto'; exit 1; }; \
	cmp "$$out/http.binpb" server/deploy/http.binpb \
	  || { echo 'server/deploy/http.binpb does not match proto/ and http.yaml: run make proto'; exit 1; }

BREAKING = buf breaking proto --against "$$(git rev-parse --git-common-dir)\#branch=main,subdir=proto"

.PHONY: proto-breaks
proto-breaks: $(STAMP) # Fail if the contract breaks clients of the branch main in a way that proto/breaks.txt does not declare
	@if { $(BREAKING) || true; } | sed -E 's/:[0-9]+:[0-9]+:/: /' | grep -vxFf proto/breaks.txt; then \
	  echo 'these breaks are not declared: add the lines to proto/breaks.txt if they are intended'; exit 1; \
	fi

.PHONY: sdk-check
sdk-check: $(STAMP) ## Install the SDK alone with the oldest and the newest supported protobuf, and import it
	@for protobuf in 'protobuf==6.31.1' 'protobuf==6.33.*' 'protobuf==7.36.*'; do \
	  out=$$(mktemp -d); $(PYTHON) -m venv "$$out"; \
	  "$$out/bin/python" -m pip install --quiet . "$$protobuf"; \
	  "$$out/bin/python" -W error tests/sdk_alone.py; rm -rf "$$out"; \
	done

.PHONY: wheel
wheel: $(STAMP) ## Build what would be published, a wheel and its source archive, into dist/
	@rm -rf dist
	$(BIN)/python -m build --outdir dist

.PHONY: pictures
pictures: $(STAMP) ## Make the recording and the screens of the README again; needs tmux and the font DejaVu Sans Mono
	$(BIN)/python client/pictures/make.py

.PHONY: bench
bench: $(STAMP) ## Measure speed, compared with a minimal prototype of the same contract
	@$(BIN)/python -m tests.benchmarks

.PHONY: clean
clean: ## Remove the virtual environment and all caches
	rm -rf $(VENV) .venv-deploy .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
