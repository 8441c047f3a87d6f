# Everything that is made is in this folder. ARGS passes options on: make test ARGS="-k tap".

VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.stamp
CACHE  := .cache
PIP     = $(BIN)/python -m pip --quiet --disable-pip-version-check --cache-dir $(CURDIR)/$(CACHE)/pip
# The first Python that is new enough; make PYTHON=... names another one.
RECENT := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON  = $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
            $$p $(RECENT) 2>/dev/null && echo $$p && break; done)

.PHONY: help venv demo test test-tools soak lint bench lock audit clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

venv: $(STAMP)

# The lock file decides what is installed, and its hashes whether it is the right file.
$(STAMP): requirements.lock pyproject.toml
	@python=$$(command -v "$(PYTHON)") && "$$python" $(RECENT) || { \
	  echo "Python 3.11 or newer is needed: apt-get install python3 python3-venv" >&2; exit 1; }; \
	"$$python" -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$$python lacks its venv module: apt-get install python3-venv" >&2; exit 1; }; \
	test -x $(BIN)/python || { echo "making $(VENV) with $$python"; "$$python" -m venv $(VENV); }
	@$(PIP) install --require-hashes --only-binary :all: -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

demo: venv ## a call on this machine: live metrics, archive, SQL (ARGS="--duration 30")
	@$(BIN)/monitoring demo $(ARGS)

test: venv ## all tests, two files at a time
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

test-tools: ## install with apt-get and npm what some tests use: Prometheus, Chromium, strace, prompts, ...
	@sh tests/install_tools.sh

soak: venv ## the long tests, by hand, and write benchmarks/SOAK.md (ARGS="--kills 100")
	@$(BIN)/python -m benchmarks.soak $(ARGS)

lint: venv ## style, types, import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: venv ## measure, and write benchmarks/RESULTS.md
	@$(BIN)/python -m benchmarks $(ARGS)

lock: ## resolve the dependencies of pyproject.toml anew into requirements.lock
	@test -x $(CACHE)/lock/bin/uv || { $(PYTHON) -m venv $(CACHE)/lock && \
	  $(CACHE)/lock/bin/python -m pip install --quiet --disable-pip-version-check uv; }
	@$(CACHE)/lock/bin/uv pip compile --quiet --upgrade --universal --generate-hashes --no-annotate \
	  --all-extras --python-version 3.11 --custom-compile-command "make lock" \
	  -o requirements.lock pyproject.toml

audit: ## known vulnerabilities of what is locked; asks the network, and fails where it cannot tell
	@test -x $(CACHE)/audit/bin/pip-audit || { $(PYTHON) -m venv $(CACHE)/audit && \
	  $(CACHE)/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit; }
	@$(CACHE)/audit/bin/pip-audit --strict --require-hashes --disable-pip -r requirements.lock

clean: ## remove what make made
	@rm -rf $(VENV) $(CACHE) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache \
	  .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
