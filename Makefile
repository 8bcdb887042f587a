# Python 3.11+ and Go are all that a machine needs; everything else is set up here, in ignored folders.
#   PLACET_RUN=once make run   ends after the story
#   make run ARGS="--replicas 2 --ports auto"

PYTHON_RUN = .venv/bin/python
ARGS ?=
PYTEST_ARGS ?=
FUZZ ?= 1000000
BENCH ?= full

.DEFAULT_GOAL := help
.PHONY: help run test coverage fuzz test-data bench check fmt rule proto client proto-image setup setup-run clean

help:
	@echo 'make run     set up, start everything on this machine, play the first story, serve until Ctrl-C'
	@echo '             (PLACET_RUN=once: end after the story; ARGS="…": options of `pdp dev`)'
	@echo 'make test    set up, run every check and every test that needs neither a container engine nor outside data'
	@echo '             (PYTEST_ARGS="…": options of pytest)'
	@echo 'make coverage   list the lines and branches that the latest `make test` did not run in its own process'
	@echo 'make bench   set up, measure beside plainer designs, print ratios (BENCH=quick: a minute; BENCH=full: ten)'
	@echo 'make test-data   try converters and a story on data that is not part of the project (PLACET_TEST_DATA: its folder)'
	@echo 'make fuzz    send a million different odd requests to a stack of its own (FUZZ=number)'
	@echo 'make check   the fast part: format, lint, types, import floors, proto, Rego, unit tests'
	@echo 'make fmt     format Python and Rego'
	@echo 'make rule    begin a rule of the policy, with its tests and its row in the docs (NAME=category/rule)'
	@echo 'make proto   generate the gRPC stubs from proto/'
	@echo 'make client  make the synchronous client from the asynchronous one'
	@echo 'make proto-image   release the proto: later changes must be compatible with this one'
	@echo 'make clean   delete what was built and installed; stacks and their databases stay (.placet)'

run: setup-run
	@exec $(PYTHON_RUN) tools/foreground.py $(PYTHON_RUN) -m pdp dev --story $(if $(filter once,$(PLACET_RUN)),--once) $(ARGS)

test: setup
	@$(PYTHON_RUN) tools/check.py --except "unit tests"
	@mkdir -p .cache
	@$(PYTHON_RUN) -m coverage run -m pytest -m "not docker and not data" \
		-p tests.support.left_out -p tests.support.coverage_by_room $(PYTEST_ARGS)

# Reads what the latest `make test` measured.
coverage: setup
	@$(PYTHON_RUN) -m coverage report --show-missing --skip-covered --skip-empty

bench: setup-bench
	@$(PYTHON_RUN) -m bench --profile $(BENCH)

# PLACET_TEST_DATA names the folder that holds the data.
test-data: setup
	@$(PYTHON_RUN) -m pytest -m data tests/data $(PYTEST_ARGS)

fuzz: setup
	@$(PYTHON_RUN) -m tests.fuzz $(FUZZ)

check: setup
	@$(PYTHON_RUN) tools/check.py

fmt: setup
	@$(PYTHON_RUN) -m ruff check --quiet --fix-only .
	@$(PYTHON_RUN) -m ruff format .
	@.tools/bin/opa fmt --write rego pdp/opa/conventions

# NAME=CATEGORY/RULE; ARGS="--effect escalate --title …": options of tools/new_rule.py.
rule: setup
	@$(PYTHON_RUN) tools/new_rule.py $(NAME) $(ARGS)

proto: setup
	@$(PYTHON_RUN) tools/stubs.py

client: setup
	@$(PYTHON_RUN) tools/sync_client.py

proto-image: setup
	@cd proto && ../.tools/bin/buf build -o image.binpb

setup:
	@tools/setup.sh dev
	@$(PYTHON_RUN) tools/build.py opa regal buf generator

setup-bench:
	@tools/setup.sh run
	@$(PYTHON_RUN) tools/build.py opa generator

setup-run:
	@tools/setup.sh run
	@$(PYTHON_RUN) tools/build.py opa

clean:
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
