# The contributor's verbs. `make demo` and `make test` do all the set-up on a fresh machine.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
PYTEST := $(BIN)/python -m pytest
# three files at a time, on two cores: most of them wait for servers. In the order of tests/conftest.py,
# else those with one test would come last, of which some take a minute
SPREAD := -n 3 --dist loadfile --no-loadscope-reorder
# the same tests on PostgreSQL, which tests/conftest.py starts; and those of them that prove most:
# commits, rollbacks, ends of sessions, permissions, clients in every kind of test, connections given back
ON_POSTGRESQL := PHX_TEST_DATABASE=postgresql $(PYTEST) -q -m "database and not big"
PROVE_MOST := tests/examples tests/hangs tests/node/test_commands.py tests/receivers tests/support tests/test_changes.py
# the processes of the tests start faster when what they import is compiled once
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test quick test-all soak lint format docs diagrams bench debian clean

demo: $(VENV)/.installed project/node_modules/.installed
	$(BIN)/python manage.py migrate --verbosity 0
	@echo "The demo is at http://127.0.0.1:8000/"
	$(BIN)/python manage.py runserver 127.0.0.1:8000

test: $(VENV)/.installed project/node_modules/.installed tests/node_modules/.installed debian lint
	$(PYTEST) -q -m "not big" $(SPREAD)
	$(ON_POSTGRESQL) -k "not direct and not WithoutTheWire" $(PROVE_MOST)

# what needs no server, no browser and no other process: about a minute
quick: $(VENV)/.installed
	$(PYTEST) -q -m "not big and not process" $(SPREAD)

test-all: $(VENV)/.installed project/node_modules/.installed tests/node_modules/.installed debian lint
	$(PYTEST) -q -m "not big" $(SPREAD)
	$(ON_POSTGRESQL) $(SPREAD)
	$(PYTEST) -q -m big
	.ci/other-pythons

# SECONDS and SOCKETS as one likes: make soak SECONDS=14400
soak: SECONDS = 1200
soak: SOCKETS = 2000
soak: $(VENV)/.installed debian
	SOAK_SECONDS=$(SECONDS) SOAK_SOCKETS=$(SOCKETS) $(PYTEST) -q -s tests/soak

lint: $(VENV)/.installed
	$(BIN)/python -m black --check -q .
	$(BIN)/python -m isort --check -q .
	$(BIN)/python -m flake8
	$(BIN)/python -m mypy

format: $(VENV)/.installed
	$(BIN)/python -m isort -q .
	$(BIN)/python -m black -q .

# the site, in docs/_build; its test makes it too
docs: $(VENV)/.installed
	$(BIN)/python -m sphinx -W --keep-going -n -q -b html docs docs/_build
	@echo "The documentation is in docs/_build/index.html"

# after a change of a diagram: its picture is in the repository, for who reads on GitHub
diagrams:
	@command -v dot >/dev/null || ( $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq graphviz >/dev/null )
	$(BIN)/python -m tests.docs.diagrams

bench: $(VENV)/.installed debian
	$(BIN)/python -m pip install --quiet matplotlib
	$(BIN)/python -m benchmarks.bench --write

$(VENV)/.installed: requirements.txt setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

%/node_modules/.installed: %/package.json
	cd $* && npm install --no-audit --no-fund --loglevel=error
	touch $@

# redis-server, chromium, nginx, HAProxy and PostgreSQL, from Debian, when they are missing
debian:
	@PATH=$$PATH:/usr/sbin; command -v redis-server >/dev/null && command -v chromium >/dev/null && \
		command -v nginx >/dev/null && command -v haproxy >/dev/null && \
		ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || \
		( $(SUDO) apt-get update -qq && \
		$(SUDO) apt-get install -y -qq redis-server chromium nginx haproxy postgresql >/dev/null )

clean:
	rm -rf $(VENV) .tox project/node_modules tests/node_modules build docs/_build *.egg-info
