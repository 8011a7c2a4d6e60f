# Each target sets itself up: the first use makes a virtual environment, later ones start at once.
VENV ?= .venv
PYTHON ?= $(or $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done),$(error Genie needs Python 3.11 or newer: install it, or name it with make PYTHON=/path/to/python3.11))
BIN = $(VENV)/bin
# Processes that run tests; 0 runs them in one, as `pytest` by hand does.
WORKERS ?= auto
comma = ,
install = $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[$(1)]' && touch $@
# The variable silences a notice about the successor of MkDocs.
mkdocs = NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs

.PHONY: setup demo play test soak campaign audit hashed check bench study-agents site tables docs clean
setup: $(VENV)/.installed-dev
demo: $(VENV)/.installed-demo ; $(BIN)/genie demo $(ARGS)
play: $(VENV)/.installed-demo ; $(BIN)/genie play $(or $(WORLD),$(wildcard runs/demo)) $(ARGS)
test: setup ; $(BIN)/pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder $(ARGS)
soak: setup ; GENIE_SOAK=1 $(BIN)/pytest tests/serving/test_soak.py tests/serving/test_static_latency.py -s $(ARGS)
campaign: setup ; $(BIN)/python -m campaign $(ARGS)
# Known vulnerabilities of the pinned versions, and what is installed as a bill of materials (SBOM).
audit: setup
	$(PYTHON) -m venv build/audit && build/audit/bin/pip install -q pip-audit cyclonedx-bom
	build/audit/bin/cyclonedx-py environment $(VENV) --of JSON -o build/sbom.json
	build/audit/bin/pip-audit -r constraints.txt --no-deps --disable-pip
# The packages in an environment of their own, each file only if it has the hash that was noted.
hashed: build/hashes.txt
	$(PYTHON) -m venv --clear build/hashed
	build/hashed/bin/pip install -q --require-hashes --no-deps -r build/hashes.txt
	build/hashed/bin/pip install -q --no-deps --no-build-isolation .
# Made only where it is missing: to make it anew trusts the package index again.
build/hashes.txt: ; mkdir -p build && $(PYTHON) campaign/hashes.py $@ $(EXTRAS)
check: setup ; $(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/pyright --pythonpath $(BIN)/python && $(BIN)/lint-imports && $(mkdocs) build --strict --quiet
bench: setup ; for file in benchmarks/[a-z]*.py; do $(BIN)/python $$file $(ARGS) || exit 1; done
docs: setup ; $(mkdocs) serve $(ARGS)
study-agents: setup ; benchmarks/study_agents.sh $(BIN)/genie $(ARGS)
site: setup ; $(BIN)/genie export coinrun-tiny coinrun-9m miner-tiny --web site $(ARGS)
tables: setup ; $(BIN)/python docs/tables.py
clean: ; rm -rf $(VENV) build dist .pytest_cache .ruff_cache .import_linter_cache

$(VENV)/.installed-demo: pyproject.toml constraints.txt ; $(call install,train$(comma)serve)
$(VENV)/.installed-dev: pyproject.toml constraints.txt ; $(call install,dev) && touch $(VENV)/.installed-demo
