# Two commands on a fresh machine with git, make and Python 3.11: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Packages come from pinned constraints, so that every machine tests the same set.
PIP = $(BIN)/pip install --quiet --disable-pip-version-check --constraint deploy/constraints.txt

.PHONY: demo test lint bench clean

$(VENV)/core: pyproject.toml deploy/constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

$(VENV)/dev: $(VENV)/core
	$(PIP) --editable '.[dev,ml,images,comparisons,oracles]'
	touch $@

demo: $(VENV)/core
	$(BIN)/stellarscale demo --out demo-run

test: $(VENV)/dev
	$(BIN)/python -m pytest -n 2 --dist loadfile -q

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/dev
	$(BIN)/stellarscale bench

clean:
	rm -rf $(VENV) demo-run
