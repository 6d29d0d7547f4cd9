# hasten: `make demo` shows what it does, `make test` runs every check. Both set up .venv first and need nothing else.
#
# Another torch build, for a GPU say (on a fresh clone or after `make clean`):
#   make setup TORCH="torch==2.13.0" PIP_FLAGS="--index-url <where that build is served>"

PYTHON ?= python3
VENV ?= .venv
TORCH ?= $(shell grep '^torch==' constraints.txt)
PIP_FLAGS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_PROMPT ?= a rocket on a blue background

.PHONY: setup demo app test bench readme format lint typecheck pytest clean
.DELETE_ON_ERROR:
# pytest comes last, under `make -j` as well: its closing line is the last one
.NOTPARALLEL:

setup: $(STAMP)

# torch goes first and alone, so that its index (PIP_FLAGS) serves nothing else and nothing else replaces the chosen build;
# a build for GPUs brings the one triton that it works with
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) "$(TORCH)"
	{ grep -vE '^(torch|triton)==' constraints.txt; \
	$(BIN)/python -m pip freeze | grep '^triton==' || grep '^triton==' constraints.txt; } > $(VENV)/constraints.txt
	$(BIN)/python -m pip install --quiet --constraint $(VENV)/constraints.txt "$(TORCH)" --editable ".[dev]"
	touch $@

demo: setup
	$(BIN)/hasten compare --model emoji-image --prompt "$(DEMO_PROMPT)" --out outputs/demo --force

app: setup
	$(BIN)/hasten app

test: lint typecheck pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# the folders are mapped onto one package; mypy follows no such map, so it gets the package spelled out in links
typecheck: setup
	rm -rf $(VENV)/typing
	mkdir -p $(VENV)/typing/hasten
	cd $(VENV)/typing/hasten && ln -s "$(CURDIR)"/plugin/* $(foreach folder,kernels pipelines app assets,"$(CURDIR)/$(folder)") .
	$(BIN)/mypy

# threads that wait asleep instead of spinning: on a shared machine the suite is some three times as fast
pytest: setup
	OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest

bench: setup
	mkdir -p outputs/bench
	$(BIN)/hasten bench attention --json > outputs/bench/attention.json
	$(BIN)/hasten bench pipeline --num-prompts 4 --out outputs/bench/pipeline --force

# the tables come from assets/benchmarks, a test holds the README to them
readme: setup
	$(BIN)/python -P assets/recipes/readme.py

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) outputs build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
