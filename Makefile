# Everything needs only Python (PYTHON=python3.12 picks one), its venv module and pip. The environment is made once in
# .venv and made anew only when the project's requirements change; the install is editable, so edits need no rebuild.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 1
REQUIREMENTS := pyproject.toml constraints.txt
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help demo test lint exactness sampling reproducible soak screenshots bench bench-losses bench-eight clean

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 15

demo: $(VENV)/.run ## A draft and a verify node on this machine, generating with the bundled pair
	$(BIN)/amusd-mp demo

test: $(VENV)/.test ## The whole test suite, two files at a time
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder \
		-o faulthandler_timeout=600 -o faulthandler_exit_on_timeout=true  # a test that hangs says where, and fails

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

soak: $(VENV)/.test ## The long runs against faults
	$(BIN)/amusd-mp simulate --seeds 10000 --jobs $(JOBS)
	$(BIN)/python -m pytest -q -s tests/chaos_full.py
	$(BIN)/python -m pytest -q -s tests/fuzz_full.py
	$(BIN)/python -m pytest -q -s tests/soak_full.py

# Benchmarks: with nothing else running. Each may take an hour or more; PROMPTS and REPEATS shorten.
PROMPTS ?= 24
REPEATS ?= 3
RUNS ?= runs
BENCH = $(BIN)/amusd-mp bench
MEASURE = --prompts tests/data/humaneval.jsonl:$(PROMPTS) --prompts tests/data/gsm8k.jsonl:$(PROMPTS) --repeats $(REPEATS)

bench: $(VENV)/.run ## Every strategy and transformers' own generation, in the paper's regime and with a fast draft
	$(BENCH) configs/bench-paper.toml $(MEASURE) --peer assisted,alone --out $(RUNS)/paper
	$(BENCH) configs/bench-fast-draft.toml $(MEASURE) --peer assisted,alone --out $(RUNS)/fast-draft

bench-losses: $(VENV)/.run ## Where speculation can only lose: bad drafts, slow drafts, and 0.1, 1 and 4 verify steps of delay
	$(BENCH) configs/bench-random-draft.toml $(MEASURE) --no-bound --out $(RUNS)/random-draft
	$(BENCH) configs/bench-slow-draft.toml $(MEASURE) --no-bound --out $(RUNS)/slow-draft
	for ms in 3 30 120; do \
		$(BENCH) configs/bench-paper.toml $(MEASURE) --no-bound --delay-ms $$ms --out $(RUNS)/delay-$$ms || exit 1; \
	done

bench-eight: $(VENV)/.run ## One and eight prompts at once, with a fast draft
	$(BENCH) configs/bench-fast-draft.toml $(MEASURE) --sweep '' --no-timeline --cold --out $(RUNS)/one-at-once
	$(BENCH) configs/bench-fast-draft.toml $(MEASURE) --sweep '' --no-timeline --concurrency 8 --out $(RUNS)/eight-at-once

screenshots: $(VENV)/.test ## The pictures of the live page; needs chromium and chromium-driver
	AMUSD_MP_SCREENSHOTS=docs/images $(BIN)/python -m pytest -q -rs tests/gateway/test_page.py

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
