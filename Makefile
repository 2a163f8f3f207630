# Daily tasks. `make` without a target lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help run test test-all lint format bench bench-training reliability screenshots lock licenses clean

help: ## List these targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

run: $(VENV)/.ready ## Install the requirements and start the app on http://127.0.0.1:8501
	@echo "Starting the app on http://127.0.0.1:8501 (Ctrl-C ends it)"
	$(BIN)/streamlit run app/main.py

test: $(VENV)/.ready-dev ## Install the requirements and run the tests
	$(BIN)/python -m pytest

test-all: $(VENV)/.ready-dev ## Run all tests, including the slow ones
	$(BIN)/python -m pytest -m ""

lint: $(VENV)/.ready-dev ## Check style and types without changes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.ready-dev ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.ready-dev ## Measure inference, compared with references
	$(BIN)/python -m pip install --quiet -r requirements-bench.txt
	$(BIN)/python -m benchmarks.inference

bench-training: $(VENV)/.ready-dev ## Measure training, compared with a Keras script (an hour)
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.resume

reliability: $(VENV)/.ready-dev ## Measure fuzzing, hostile files, kills and load (an hour)
	$(BIN)/python -m benchmarks.fuzz
	$(BIN)/python -m benchmarks.bombs
	$(BIN)/python -m benchmarks.faults
	$(BIN)/python -m benchmarks.load
	$(BIN)/python -m benchmarks.load --hostile
	$(BIN)/python -m pytest -m "" tests/robustness/test_network.py

screenshots: $(VENV)/.ready-dev ## Retake the screenshots in docs/ (needs Chromium)
	$(BIN)/python docs/take_screenshots.py

lock: $(VENV)/.ready-dev ## Resolve requirements.in into pinned, hashed requirements, for Python 3.11 to 3.13
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-strip-extras --python-version 3.11 --no-header --upgrade requirements.in -o requirements.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-strip-extras --python-version 3.11 --no-header --upgrade requirements-cluster.in -o requirements-cluster.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-strip-extras --python-version 3.11 --no-header --upgrade requirements-dev.in -o requirements-dev.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-strip-extras --python-version 3.11 --no-header --upgrade requirements-bench.in -o requirements-bench.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-strip-extras --python-version 3.11 --no-header --upgrade requirements-distill.in -o requirements-distill.txt

licenses: $(VENV)/.ready-dev ## List the licenses of the dependencies in docs/licenses.md
	$(BIN)/python docs/list_licenses.py

clean: ## Remove the virtual environment and all caches, but no runs
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info[:2] <= (3, 13); sys.exit(None if ok else f"Unsupported Python version. Expected 3.11 to 3.13, got {sys.version.split()[0]} ({sys.executable}). Choose another one: make PYTHON=python3.12")'
	@echo "Creating the virtual environment $(VENV)"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: requirements.txt | $(VENV)/bin/python
	@echo "Installing the pinned packages of requirements.txt (once, a few minutes)"
	$(BIN)/python -m pip install --quiet -r requirements.txt
	@touch $@

$(VENV)/.ready-dev: requirements-dev.txt requirements.txt | $(VENV)/bin/python
	@echo "Installing the pinned packages of requirements-dev.txt (once, a few minutes)"
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	@touch $@ $(VENV)/.ready
