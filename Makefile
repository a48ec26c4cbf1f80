# `make demo` and `make test` each work as the only command in a fresh clone: the first one makes .venv.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
NB ?=
FLAGS ?=

# what notebooks and tests start (`psi`, `python`) is what .venv holds
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help demo test lab export check notebooks docs bench clean
.DELETE_ON_ERROR:

help:
	@echo 'make demo       run the whole method, small, and show what came out (runs/demo, runs/demo/report.html)'
	@echo 'make test       check the notebooks, run them, then test the installed package'
	@echo 'make lab        open the notebooks'
	@echo 'make export     after editing notebooks: clean them, write psi/ and README.md'
	@echo 'make check      would `make export` change anything?'
	@echo 'make notebooks  run notebooks again and keep their outputs (NB="nbs/00_core.ipynb ..." FLAGS="slow ...")'
	@echo 'make docs       build the site from the notebooks, offline (_docs/index.html)'
	@echo 'make bench      measure speed beside others (leave the machine alone meanwhile)'
	@echo 'make clean      remove what building and testing leave behind'

demo: $(INSTALLED)
	@test -f demo.toml || $(BIN)/psi init --scale demo demo.toml
	$(BIN)/psi run demo.toml
	$(BIN)/psi show runs/demo
	$(BIN)/psi report runs/demo

test: check
	@echo "== notebooks ($$(date +%T))"
	$(BIN)/psi fetch smollm2-135m-instruct all-mpnet-base-v2
	$(BIN)/nbdev_test --n_workers 2 --do_print --timing
	@echo "== the package as it installs ($$(date +%T))"
	rm -rf build psi.egg-info
	$(BIN)/python -m pip wheel -q --no-deps -w build/wheel .
	$(BIN)/python -m pip install -q --no-deps --target build/installed build/wheel/*.whl
	cd tests && PSI_TEST_INSTALLED=1 PYTHONPATH='$(CURDIR)/build/installed' \
		'$(CURDIR)/$(BIN)/python' -m pytest -q -n 2 --dist loadfile --durations 5 -p no:cacheprovider --rootdir . .

lab: $(INSTALLED)
	$(BIN)/jupyter lab nbs

export: $(INSTALLED)
	$(BIN)/nbdev_clean
	$(BIN)/nbdev_export
	$(BIN)/python tools/readme.py

check: $(INSTALLED)
	@echo "== notebooks against psi/ and README.md ($$(date +%T))"
	$(BIN)/python tools/check.py

notebooks: $(INSTALLED)
	$(BIN)/python tools/run_nbs.py --flags '$(FLAGS)' $(NB)

docs: $(INSTALLED)
	$(BIN)/python tools/docs.py

bench: $(INSTALLED)
	$(BIN)/python bench/lm.py
	$(BIN)/psi fetch smollm2-135m-instruct
	$(BIN)/python bench/engine.py
	$(BIN)/python bench/diversity.py
	$(BIN)/python bench/boundary.py
	$(BIN)/python bench/train.py

clean:
	rm -rf build dist psi.egg-info _docs _proc _proc_site .pytest_cache tests/.hypothesis .hypothesis
	find nbs psi tests tools -name __pycache__ -prune -exec rm -rf {} +

$(INSTALLED): settings.ini constraints.txt setup.py pyproject.toml | $(BIN)/pip
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "psi needs Python 3.10 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1): make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
