# SPDX-License-Identifier: GPL-2.0-or-later
# From a fresh clone: `make demo` runs the fetch race, `make test` runs every check. Both make .venv first, once.
# Needed: python3 (3.11 or newer) with venv, a C compiler, make. The guests' images are in the repository.

PYTHON ?= python3
CC ?= cc
VENV := .venv
BIN := $(VENV)/bin
STUBS := allstop.vm.control.control allstop.vm.journal.recorder allstop.vm.journal.kind \
	allstop.vm.memory.guest_memory allstop.coordinator.node.memory.node_memory allstop.vcpu_worker.engine
PYTEST := $(BIN)/python -m pytest --dist worksteal
C_SOURCES := $(shell find vm coordinator vcpu_worker -name '*.[ch]')

.PHONY: demo check test test-bench fuzz sanitize lint format venv clean

demo: venv
	@mkdir -p demo
	$(BIN)/allstop race --fetch unprotected,stop-world,validate --page demo/race.html

# The checks and every test that starts no process: for each change, at most a minute on
# two cores. Property tests try fewer examples than in `make test`.
check: lint
	ALLSTOP_EXAMPLES=25 $(PYTEST) -n 2 -m "not processes and not bench"

# Everything but the benchmarks' tests: what has to be green before a change goes in.
test: lint
	$(PYTEST) -n auto -m "not bench"

# The benchmarks run and print what can be used. They measure a machine; they are not needed to prove one.
test-bench: venv
	$(PYTEST) -n auto -m bench

# The parsers, with arbitrary and with damaged input, for longer.
fuzz: venv
	ALLSTOP_EXAMPLES=20000 $(PYTEST) -n auto -m fuzz

# The extensions with AddressSanitizer and UndefinedBehaviorSanitizer, in a folder of their own.
sanitize: venv
	.ci/sanitize $(BIN)/python

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/stubtest --mypy-config-file pyproject.toml $(STUBS)
	$(BIN)/lint-imports

format: venv
	$(BIN)/ruff format .
	clang-format -i $(C_SOURCES)

venv: $(VENV)/extensions.stamp

$(VENV)/packages.stamp: pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "allstop needs Python 3.11 or newer: say make PYTHON=/path/to/python3.11"; exit 1; }
	@command -v $(firstword $(CC)) >/dev/null || { echo "allstop needs a C compiler: install gcc"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check 'setuptools>=68' -e '.[test,lint]'
	touch $@

$(VENV)/extensions.stamp: $(VENV)/packages.stamp $(C_SOURCES)
	$(BIN)/python -W ignore setup.py -q build_ext --inplace
	touch $@

clean:
	rm -rf $(VENV) build demo *.egg-info vm/*/*.so coordinator/node/memory/*.so vcpu_worker/engine/*.so
