# The commands of this repository; `make` lists them. Everything is installed into .venv in this clone, nothing else.

VENV := .venv
PY := $(VENV)/bin/python
TOLEM := $(VENV)/bin/tolem
PIP := $(PY) -m pip --quiet --disable-pip-version-check --no-input
ARGS :=
JOBS := 5

# The environment is only what requirements/ locks, whatever the caller's shell is set up for.
export PYTHONNOUSERSITE := 1
export PIP_USER := 0
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV
# Images often set this. Without kept bytecode every process that a test starts compiles all modules anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check format bench screenshots pictures accessibility lighthouse states lock clean

help:                             ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { sub(/:.*/, "", $$1); printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/runtime.stamp       ## gateway and demo shop on this machine, until Ctrl-C
	@exec $(TOLEM) demo $(ARGS)

test: $(VENV)/dev.stamp           ## all tests; ARGS="-k name" for some, JOBS=0 in one process
	@$(PY) scripts/browser.py
	@exec $(PY) -m pytest -n $(JOBS) --dist worksteal $(ARGS)

check: $(VENV)/dev.stamp          ## format, lint, types, import directions
	@$(PY) -m ruff format --check
	@$(PY) -m ruff check
	@$(PY) -m mypy src tests scripts $(wildcard bench)
	@exec $(PY) -m pytest tests/test_architecture.py

format: $(VENV)/dev.stamp         ## rewrite the code in the common format
	@$(PY) -m ruff check --fix-only --quiet
	@$(PY) -m ruff format

bench: $(VENV)/dev.stamp          ## the performance report
	@exec $(PY) bench/run.py $(ARGS)

screenshots: $(VENV)/dev.stamp    ## pictures of the page's states, in test-output/screenshots
	@$(PY) scripts/browser.py
	@exec $(PY) -m scripts.screenshots $(ARGS)

pictures: screenshots             ## the documentation's pictures of the page, anew
	@exec $(PY) -m scripts.pictures

accessibility: $(VENV)/dev.stamp  ## axe-core on all states, languages, widths and schemes, each with each
	@$(PY) scripts/browser.py
	@TOLEM_EVERY_COMBINATION=1 exec $(PY) -m pytest -n $(JOBS) tests/browser/test_accessibility.py $(ARGS)

lighthouse: $(VENV)/dev.stamp     ## Lighthouse's judgement of the card form; needs npm
	@$(PY) scripts/browser.py
	@exec $(PY) -m scripts.lighthouse $(ARGS)

states: $(VENV)/dev.stamp         ## write docs/states.md anew from the code
	@exec $(PY) scripts/states.py

# pip-tools lives in a throwaway environment. dev.txt first, so that the two others pin the same versions.
COMPILE = $$tools/bin/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-header \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options $(ARGS)
lock:                             ## write requirements/*.txt anew; ARGS=--upgrade for newer versions
	@set -e; tools=$$(mktemp -d); trap 'rm -rf "$$tools"' EXIT; \
	$(FIND_PYTHON); $$python -m venv $$tools; $$tools/bin/pip --quiet install 'pip-tools>=7.5'; \
	$(COMPILE) -o requirements/dev.txt pyproject.toml requirements/build.in requirements/dev.in; \
	$(COMPILE) -c requirements/dev.txt -o requirements/runtime.txt pyproject.toml; \
	$(COMPILE) -c requirements/dev.txt -o requirements/build.txt requirements/build.in; \
	if grep -nE '[a-z]+://' requirements/*.txt; then echo 'lock: an address got into the files' >&2; exit 1; fi

clean:                            ## remove the environment, caches and test output
	@rm -rf $(VENV) test-output dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

# PYTHON=... names one; else the first that is new enough.
FIND_PYTHON = python=; for candidate in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then python=$$candidate; break; fi; done; \
	if [ -z "$$python" ]; then \
	echo 'tolem needs Python 3.11 or newer, and none was found (PYTHON=/path/to/python3 names one)' >&2; exit 1; fi

$(VENV)/pyvenv.cfg:
	@$(FIND_PYTHON); echo "installing into $(VENV) (once)"; rm -rf $(VENV); $$python -m venv $(VENV) || { \
	rm -rf $(VENV); echo "$$python cannot make a virtual environment (on Debian: the package python3-venv)" >&2; exit 1; }

$(VENV)/runtime.stamp: requirements/runtime.txt requirements/build.txt $(VENV)/pyvenv.cfg
	@$(PIP) install --require-hashes -r requirements/runtime.txt -r requirements/build.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev.stamp: requirements/dev.txt $(VENV)/pyvenv.cfg
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@
