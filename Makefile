# Everything a contributor runs. `make demo` and `make test` set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# `make test PG=system` uses a PostgreSQL of the machine instead of the wheel's.
PG ?= wheel
export PG
# Modules are compiled once, not by each of the hundred processes that tests start: empty is unset.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup demo serve test chromium check bench soak format clean

setup: $(VENV)/.ready

$(VENV)/.ready: requirements-dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: setup
	$(BIN)/partyline demo

serve: setup
	$(BIN)/partyline serve

# In a fresh clone each of the four processes would compile all tests: here two compile a half each, at once.
test: setup chromium
	@$(BIN)/pytest --collect-only --quiet tests/acceptance > /dev/null & \
	 $(BIN)/pytest --collect-only --quiet --ignore tests/acceptance > /dev/null; wait
	$(BIN)/pytest --numprocesses 4 --dist worksteal

# Some tests drive a browser, the machine's own; where there is none, root gets Debian's.
chromium:
	@tests/browser/install

check: setup
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

# `make bench PARTS="ingest latency"` runs some of it, `make bench PARTS="--scale 0.1"` a trial.
bench: $(VENV)/.ready-bench
	$(BIN)/python -m benchmarks $(PARTS)

$(VENV)/.ready-bench: $(VENV)/.ready requirements-bench.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.txt
	touch $@

soak: setup
	$(BIN)/pytest tests -m soak --no-header -s

format: setup
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
