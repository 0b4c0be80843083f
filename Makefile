# A thin wrapper: `python -m pip install .` and `plait demo` are the real entry.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: setup demo serve test lint clean

setup: $(VENV)/.ready

$(VENV)/.ready: requirements.lock pyproject.toml scripts/setup.sh
	PYTHON=$(PYTHON) VENV=$(VENV) sh scripts/setup.sh
	touch $@

$(VENV)/.ready-ray: $(VENV)/.ready requirements-ray.lock
	$(BIN)/python -m pip --quiet --disable-pip-version-check install -r requirements-ray.lock
	touch $@

demo: setup
	$(BIN)/plait demo

serve: setup
	$(BIN)/plait serve

test: setup lint
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: $(VENV)/.ready-ray
	$(BIN)/ruff check plait tests scripts benchmarks
	$(BIN)/ruff format --check plait tests scripts benchmarks
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
