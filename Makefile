# make demo   install, then answer twelve problems with h1r-nano by a confidence-weighted vote
# make test   install, then style, types and tests
# make check  style and types alone
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
READY = $(VENV)/.h1r-installed

.PHONY: env demo test check

env: $(READY)

# Made anew when what is to be installed changes.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "h1r needs Python 3.11 or newer; name one with make PYTHON=..."; exit 1; }
	@echo "== virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@echo "== torch"
	@$(PIP) torch
	@echo "== h1r and its other dependencies"
	@$(PIP) -e '.[test]'
	@touch $@

demo: env
	@echo "== h1r deepconf examples/arith.jsonl --model h1r-nano --profile cpu"
	@$(BIN)/h1r deepconf examples/arith.jsonl --model h1r-nano --profile cpu

check: env
	@echo "== ruff"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@echo "== mypy"
	@$(BIN)/mypy

test: check
	@echo "== pytest"
	@OMP_NUM_THREADS=2 $(BIN)/pytest -q
