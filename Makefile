# make demo and make test each set everything up on a fresh machine first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test check bench soak clean

setup: $(STAMP)

$(STAMP): pyproject.toml deploy/setup.sh
	deploy/setup.sh "$(PYTHON)" "$(VENV)"
	touch $(STAMP)

demo: setup
	$(BIN)/headrace demo

test: setup
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/headrace bench collect --json bench.json

soak: setup
	HEADRACE_SOAK=1 $(BIN)/python -m pytest -m "soak or not soak" --timeout 3600

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
