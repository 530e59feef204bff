# Every target works from a fresh clone with only Python 3.11 and pip: .venv is made when it is missing or out of date.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTHON_FILES := adbench tests benchmarks
SIDE_BY_SIDE := --numprocesses auto --maxprocesses 4  # of tests
ONE_THREAD := OMP_NUM_THREADS=1  # for each of them: they share the cores

.PHONY: quickstart test test-cluster check format docs clean

$(VENV)/.installed: pyproject.toml
	@echo "Installing into $(VENV): 6.4 GB on Linux with the CUDA builds of torch; this takes several minutes"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[test]'
	touch $@

quickstart: $(VENV)/.installed  ## the main job: generated parts, five layers, PatchCore, a report
	$(BIN)/adbench sweep --preset quickstart
	$(BIN)/adbench report --study none
	@echo "To run adbench in this terminal: . $(BIN)/activate"

test: $(VENV)/.installed
	$(ONE_THREAD) $(BIN)/python -m pytest -rs $(SIDE_BY_SIDE)

SLURM := slurmctld slurmd slurm-client slurm-wlm-basic-plugins

test-cluster: $(VENV)/.installed  ## the executors slurm and ray on real clusters, started for it on this machine
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,slurm,ray]'
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! command -v slurmctld >/dev/null; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends $(SLURM); fi
	$(BIN)/python -m pytest -m cluster -rs tests/cluster

check: $(VENV)/.installed  ## what CI runs: format, lint, strict types, tests
	$(BIN)/ruff format --check $(PYTHON_FILES)
	$(BIN)/ruff check $(PYTHON_FILES)
	$(BIN)/mypy
	$(ONE_THREAD) $(BIN)/python -m pytest -rs $(SIDE_BY_SIDE)

format: $(VENV)/.installed
	$(BIN)/ruff format $(PYTHON_FILES)
	$(BIN)/ruff check --fix $(PYTHON_FILES)

docs: $(VENV)/.installed  ## write the command reference from --help
	$(BIN)/python tests/test_docs.py

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
