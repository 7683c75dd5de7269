# Everything runs from .venv, which is made from the lock file: nothing has to be installed by hand but Python 3.11+ and make.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check

# Two lock files from one resolution: the image gets requirements.lock, a checkout the tools for tests and checks as well.
# Plain names, versions and hashes: where packages come from is the machine's business.
COMPILE := $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header --no-annotate \
	--no-emit-options --no-emit-index-url --no-emit-find-links --no-emit-trusted-host

.PHONY: setup up demo test check lock

setup: $(INSTALLED)

$(INSTALLED): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Siaran needs Python 3.11 or newer; name one with PYTHON=…" if sys.version_info < (3, 11) else 0)'
	@echo "Installing into .venv; the first time this takes about a minute."
	@$(PYTHON) -m venv .venv
	@$(PIP) install -qq --require-hashes -r requirements-dev.lock
	@$(PIP) install -qq --no-deps --no-build-isolation --editable .
	@touch $@

up: setup
	@$(BIN)/siaran up

demo: setup
	@$(BIN)/siaran demo $(DEMO_ARGS)

# Two processes with servers of their own; what starts and kills whole stacks goes to one of them, one test after another.
test: setup
	$(BIN)/pytest --numprocesses 2 --dist loadgroup $(TEST_ARGS)

check: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m siaran.embedded.schema_check

lock: setup
	$(COMPILE) --all-build-deps --output-file requirements.lock pyproject.toml
	$(COMPILE) --all-build-deps --extra dev --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml
