# make demo | test | check | bench | docs | clean
PYTHON ?= python3
TORCH  ?= torch==2.13.0
SCALE  ?= full
BIN    := .venv/bin
PIP    := $(BIN)/python -m pip install -q --disable-pip-version-check --no-compile

.PHONY: demo test check bench docs clean

# Byte code is kept: without it, every process that imports PyTorch compiles it anew, which takes longer than most tests.
unexport PYTHONDONTWRITEBYTECODE

demo: .venv/installed
	$(BIN)/aasut run examples/reviews/recipe.yaml --scale $(SCALE)

test: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python docs/recipe.py --check

bench: .venv/installed-dev
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

docs: .venv/installed-dev
	$(BIN)/python docs/recipe.py

# PyTorch goes first and by itself, so that a CPU build chosen by the caller stays (see README).
.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) '$(TORCH)'
	$(PIP) -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(PIP) -e '.[dev]'
	touch $@

clean:
	rm -rf .venv runs
