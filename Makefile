# One command for each habit. `make` alone lists them.
#
# Everything is installed into .venv, by stamp files: the second `make serve` installs nothing, and
# a changed pyproject.toml or constraints.txt, or a change of what is compiled, installs again.

# The first Python here that Regatta runs on; `make PYTHON=/path/to/python serve` overrides it.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c '$(SUPPORTED)' 2>/dev/null && echo $$p && break; done)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTEST := $(BIN)/python -P -m pytest
TWO_AT_ONCE := -n 2 --dist loadfile
PORT ?= 5000
# Options for pytest: `make test PYTEST_OPTIONS='-k export -x'`.
PYTEST_OPTIONS ?=
# Of `make chaos`; more: `make chaos CHAOS_OPTIONS='--fault-every 2 --faults worker-kill'`.
SECONDS ?= 60
SEED ?= 1
CHAOS_OPTIONS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Two pip at once in one environment damage it.
.NOTPARALLEL:
.PHONY: help venv serve test test-slow chaos lint format bench docs screenshots audit lock clean distclean

help:  ## list these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 12

serve: $(VENV)/.installed  ## install if needed and open the dashboard on http://127.0.0.1:5000
	$(BIN)/regatta serve --port $(PORT)

# Two tests at once, file by file: half of them wait. Those in a browser follow, whatever came of the
# others. 5: none was chosen.
test: $(VENV)/.installed-test  ## every test but the slow ones
	@others=0; browser=0; \
	$(PYTEST) -m "not slow and not browser" $(TWO_AT_ONCE) $(PYTEST_OPTIONS) || others=$$?; \
	$(PYTEST) -m "browser and not slow" $(TWO_AT_ONCE) $(PYTEST_OPTIONS) || browser=$$?; \
	for status in $$others $$browser; do [ $$status -eq 0 ] || [ $$status -eq 5 ] || exit $$status; done

test-slow: $(VENV)/.installed-test  ## the slow tests
	$(PYTEST) -m slow $(PYTEST_OPTIONS)

chaos: $(VENV)/.installed-test  ## runs that are killed and stopped at random: SECONDS=60 SEED=1
	$(BIN)/python -P -m regatta.tests.chaos --seconds $(SECONDS) --seed $(SEED) $(CHAOS_OPTIONS)

# mypy does not follow the import hook of an editable install, and the root is the package: a link
# called `regatta` shows it the tree (mypy_path in pyproject.toml). It lies in .venv because mypy
# walks into no folder whose name starts with a dot, so the link never leads it in a circle.
lint: $(VENV)/.installed-test $(VENV)/.installed-dev $(VENV)/typing/regatta  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p regatta

format: $(VENV)/.installed-dev  ## format and sort imports
	$(BIN)/ruff check --fix-only --select I .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-bench  ## benchmarks against scikit-learn and PyTorch: docs/benchmarks.md
	$(BIN)/regatta bench

docs: $(VENV)/.installed-docs  ## write what docs/ has from the code, and build the site: build/site
	$(BIN)/python -P docs/generate_reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

screenshots: $(VENV)/.installed-test  ## take the pictures in docs/images (needs chromium)
	$(BIN)/python -P docs/make_screenshots.py

audit: $(VENV)/.installed-dev  ## known vulnerabilities in the locked versions
	$(BIN)/pip-audit --strict --no-deps --disable-pip -r constraints.txt

# Torch is for the benchmarks alone and not installed here: its number stands in pyproject.toml, and
# of what it needs the plain Python part is named (the rest, CUDA, is several GB where there is any).
TORCH_NEEDS := filelock fsspec networkx sympy
lock:  ## write constraints.txt anew from a clean environment
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip --disable-pip-version-check install --quiet --upgrade pip
	build/lock/bin/python -m pip --disable-pip-version-check install --quiet '.[test,docs,dev,gpu]' \
	  duckdb polars $(TORCH_NEEDS)
	{ echo '# Exact versions of everything, for Python 3.11 to 3.13. Made by `make lock`.'; \
	  build/lock/bin/python -m pip --disable-pip-version-check freeze --all \
	    | grep -vE '^(regatta|pip|setuptools|wheel)[ =]' | LC_ALL=C sort; \
	  echo '# Used by the benchmarks alone.'; \
	  sed -n 's/.*"\(torch==[0-9.]*\)".*/\1/p' pyproject.toml; } > build/constraints.txt
	mv build/constraints.txt constraints.txt

clean:  ## remove what was built and every cache
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean  ## also remove .venv and what was compiled
	rm -rf $(VENV) ingest/_cells.so

# The environment itself. Made again if it cannot run pip: half made, moved, or its Python is gone.
venv:
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  if [ -z "$(PYTHON)" ] || ! $(PYTHON) -c '$(SUPPORTED)'; then \
	    echo "Regatta needs Python 3.11, 3.12 or 3.13, and python3 here is $$(python3 --version 2>&1)." \
	      "Install one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; fi; \
	  if ! $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null; then \
	    echo "$(PYTHON) cannot make virtual environments: its venv module is missing." \
	      "On Debian or Ubuntu: sudo apt-get install python3-venv" >&2; exit 1; fi; \
	  echo "Making $(VENV) with $$($(PYTHON) --version)"; \
	  rm -rf $(VENV) && $(PYTHON) -m venv $(VENV) || exit 1; fi

# What is compiled once, when Regatta is installed.
COMPILED := setup.py ingest/cells.c
TOLD_IF_NOT = [ -e ingest/_cells.so ] || echo "No C compiler works here and none could be fetched:" \
	"files will be read at half the speed. Install gcc and libc6-dev, then: make distclean $(MAKECMDGOALS)"

$(VENV)/.installed: pyproject.toml constraints.txt $(COMPILED) | venv
	@echo "Installing Regatta and what it needs into $(VENV) (once; a minute or two)"
	$(PIP) install --quiet -c constraints.txt -e .
	@$(TOLD_IF_NOT)
	@touch $@

$(VENV)/.installed-%: pyproject.toml constraints.txt $(COMPILED) | venv
	@echo "Installing Regatta and what its extra '$*' needs into $(VENV) (once; a minute or two)"
	$(PIP) install --quiet -c constraints.txt -e '.[$*]'
	@$(TOLD_IF_NOT)
	@touch $@ $(VENV)/.installed

$(VENV)/typing/regatta: | venv
	mkdir -p $(@D)
	ln -sfn ../.. $@
