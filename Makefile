# Everything needs only Python (PYTHON=python3.12 picks one), its venv module and pip. The environment is made once in
# .venv and made anew only when the project's requirements change; the install is editable, so edits need no rebuild.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
REQUIREMENTS := pyproject.toml constraints.txt
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint exactness sampling reproducible clean

demo: $(VENV)/.run ## A draft and a verify node on this machine, generating with the bundled pair
	$(BIN)/amusd-mp demo

test: $(VENV)/.test ## The whole test suite
	$(BIN)/python -m pytest -q

lint: $(VENV)/.dev ## Style, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	sh tests/typecheck.sh $(BIN)/python

exactness: $(VENV)/.test ## The long comparison with the verify model alone
	$(BIN)/python -m pytest -q -s tests/exactness_full.py

sampling: $(VENV)/.test ## The long comparison of sampled texts with the verify model's own
	$(BIN)/python -m pytest -q -s tests/sampling_full.py

reproducible: $(VENV)/.test ## How often 16-bit texts change with timing, and what fixed shapes cost
	$(BIN)/python -m pytest -q -s tests/reproducible_full.py

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(REQUIREMENTS) | $(BIN)/python
	$(INSTALL) -e .
	@touch $@

$(VENV)/.test: $(REQUIREMENTS) | $(BIN)/python
	$(INSTALL) -e ".[test]"
	@touch $@ $(VENV)/.run

$(VENV)/.dev: $(REQUIREMENTS) | $(BIN)/python
	$(INSTALL) -e ".[dev]"
	@touch $@ $(VENV)/.test $(VENV)/.run

clean: ## Remove the environment, caches and build products
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
