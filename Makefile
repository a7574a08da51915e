PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.core
TESTSTAMP := $(VENV)/.test
DOCSTAMP := $(VENV)/.docs

.PHONY: design test lint bench proof docs clean

design: $(STAMP)  ## design the best model to train on this machine in ten minutes
	$(BIN)/shapewright measure --out this.toml --force
	$(BIN)/shapewright design this --minutes 10 --out design.json --report report.html --force

test: $(TESTSTAMP)  ## run all tests
	$(BIN)/python -m pytest -n 2

lint: $(TESTSTAMP)  ## ruff, pyright and import-linter
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports && $(BIN)/pyright

bench: $(TESTSTAMP)  ## speed and accuracy figures
	$(BIN)/pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	$(BIN)/python -m benchmarks

proof: $(TESTSTAMP)  ## who learns more in the same minutes here: one to two hours on two cores, resumable
	$(BIN)/python -m benchmarks proof

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(STAMP): $(VENV)/bin/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	touch $@

$(TESTSTAMP): $(STAMP) requirements-test.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-test.txt
	touch $@

docs: $(DOCSTAMP)  ## the documentation, in docs/_build/html
	$(BIN)/python -m sphinx -W -q -b html docs docs/_build/html

$(DOCSTAMP): $(VENV)/bin/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[docs,studio,report]'
	touch $@

clean:
	rm -rf $(VENV)
