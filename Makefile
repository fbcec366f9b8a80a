# make quickstart   set everything up, search a neck on generated data, confirm it, compare it, export it
# make test         set everything up, run linters, type checker and tests
# make test-long    the same with the tests that take a minute each, most of them of Ray in trouble

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN ?= runs/quickstart

.PHONY: help quickstart test test-long setup setup-dev lint clean

help:
	@sed -n '/^# make/s/^# //p' Makefile

quickstart: setup
	OMP_NUM_THREADS=1 $(BIN)/nasneck search experiments/quickstart.toml --out $(RUN) --confirm $(if $(wildcard $(RUN)/study.sqlite),--resume)
	OMP_NUM_THREADS=1 $(BIN)/nasneck compare $(RUN) fpn panet bifpn nas_fpn --experiment experiments/quickstart.toml --out $(RUN)/compare
	$(BIN)/nasneck export $(RUN) --in-channels 3:512,4:1024,5:2048 --channels 256 --out $(RUN)/neck.py
	@echo
	@echo "study     $(RUN)/study.sqlite"
	@echo "drawing   $(RUN)/best.svg"
	@echo "module    $(RUN)/neck.py"
	@echo "table     $(RUN)/compare/compare.md"
	@echo
	@echo "On your own data (DIR/images, DIR/annotations/instances_{train,val}.json):"
	@echo "  $(BIN)/nasneck data check DIR"
	@echo "  $(BIN)/nasneck search experiments/folder.toml --set data.root=DIR --out runs/mine"

test: setup-dev lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

test-long: setup-dev lint
	NASNECK_LONG=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

setup: $(VENV)/.installed
setup-dev: $(VENV)/.installed-dev

# uv, itself from pip, resolves and installs in seconds what takes pip minutes.
$(BIN)/uv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nasneck needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/.installed: $(BIN)/uv pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable . --group dev --group peers
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build dist
