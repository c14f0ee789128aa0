# Two commands: `make demo` runs the whole chain on this machine, `make test` checks everything.
# Each builds .venv on its first run and installs nothing on a second.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A folder of wheels, where the environment names one, saves downloads and picks its build of torch.
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --constraint constraints.txt \
	$(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS))

# A third of the tests' time is waiting for processes, servers and disks.
WORKERS := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

XLA := .venv-xla
INSTALL_XLA := $(XLA)/bin/uv pip install --quiet --python $(XLA)/bin/python --constraint constraints-xla.txt \
	$(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS))

.PHONY: setup demo test test-xla lint unit integration clean

setup: $(VENV)/.demo-installed

demo: $(VENV)/.demo-installed
	@$(BIN)/headrace run end_to_end --recipe demo

test: $(VENV)/.dev-installed lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# On the CPU client of XLA, as four devices: torch_xla wants a torch of its own, and 8 GB for both.
test-xla: $(XLA)/.installed
	$(XLA)/bin/python -c 'import torch_xla'
	PYTHONPATH=src $(XLA)/bin/python -m pytest tests/xla

lint: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(VENV)/.dev-installed
	$(BIN)/python -m pytest tests/unit -n $(WORKERS) --dist loadfile

integration: $(VENV)/.dev-installed
	$(BIN)/python -m pytest tests/integration tests/e2e

clean:
	rm -rf $(VENV) $(XLA) .headrace build

$(BIN)/uv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "headrace needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv

$(VENV)/.demo-installed: pyproject.toml constraints.txt | $(BIN)/uv
	$(INSTALL) --editable '.[demo]'
	@touch $@

$(VENV)/.dev-installed: pyproject.toml constraints.txt | $(BIN)/uv
	$(INSTALL) --editable '.[demo,dev]'
	@touch $@ $(VENV)/.demo-installed

$(XLA)/.installed: pyproject.toml constraints-xla.txt
	$(PYTHON) -m venv $(XLA)
	$(XLA)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	$(INSTALL_XLA) --editable '.[train,xla]' pytest pytest-timeout
	@touch $@
