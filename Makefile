# Two verbs matter here: `make demo` plays the product through, `make test` proves it. Both set up what they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PRODUCT := <<cookiecutter.project>>
LOCKS := '$(PRODUCT)/requirements/dev.txt' requirements/dev.txt
# Compiled modules are not kept: tests copy the template while others run.
UNCOMPILED := PYTHONDONTWRITEBYTECODE=1
# What is measured and demonstrated is imported from where it is written.
BENCH := $(UNCOMPILED) PYTHONPATH='$(CURDIR)/$(PRODUCT)/src' $(BIN)/python
OFF := MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true GX_ANALYTICS_ENABLED=false ORT_DISABLE_TELEMETRY=1

.DEFAULT_GOAL := help
.PHONY: help setup install datasets datasets-lock demo test test-python bench-adopt bench-gate bench-looks bench-watch bench-replay bench-faults bench-ledger bench-image bench-serve bench-rollout bench-workflows check format seal golden docs lock upgrade sample-data release-files release tell

## First steps

# A line that begins with `## ` is a heading. What a verb says of itself is wrapped at 100 columns.
help:  ## list the verbs
	@awk -F ':.*## ' '/^## / {print gap substr($$0, 4); gap = "\n"} /^[a-z-]+:.*## / {line = sprintf("  %-16s", $$1); \
	  words = split($$2, word, " "); for (i = 1; i <= words; i++) {if (length(line word[i]) > 99) {print line; \
	  line = sprintf("%18s", "")} line = line " " word[i]} print line}' $(MAKEFILE_LIST)

# The stamp is a copy of the locks that were installed: setup does nothing while they are equal.
setup:  ## install the locked requirements of product and template into .venv
	@cat $(LOCKS) | cmp -s - $(VENV)/template.txt || $(MAKE) --no-print-directory install

# uv installs on all cores. It does not read pip's settings: where only these name an index, pip does it.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes
LOCKED := $(foreach lock,$(LOCKS),-r $(lock))
install:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed; name one: make demo PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setup     installing the locked requirements into $(VENV) (about a minute)"
	@sed -n '/^uv==/,/[^\\]$$/p' $(LOCKS) | $(PIP) -r /dev/stdin
	@$(BIN)/uv pip install --quiet --compile-bytecode --require-hashes --python $(BIN)/python $(LOCKED) || $(PIP) $(LOCKED)
	@cp '$(PRODUCT)/requirements/dev.txt' $(VENV)/installed.txt
	@cat $(LOCKS) > $(VENV)/template.txt

demo: setup  ## play the acts of a model's life on real data
	@$(OFF) $(BIN)/python tools/demo.py

# Where a worker waits for the engine another one has the cores: there is one more of them than two cores need.
test: setup check  ## run every test
	@mkdir -p build && rm -f build/coverage.jsonl
	$(OFF) ACT_COVERAGE=$(CURDIR)/build/coverage.jsonl $(UNCOMPILED) nice -n 15 $(BIN)/python -m pytest -n 3 --durations=10 --durations-min=5 $(TESTS)
	$(if $(TESTS),,$(BIN)/python bench/workflow_coverage.py check build/coverage.jsonl)

## While you work

check: setup  ## lint the template's own code and workflows
	$(BIN)/ruff check --config pyproject.toml .
	$(BIN)/ruff format --config pyproject.toml --check .
	cd '$(PRODUCT)/src' && PYTHONPATH=. $(abspath $(BIN))/lint-imports --no-logo --no-cache ../../pyproject.toml
	cd '$(PRODUCT)/src' && $(abspath $(BIN))/mypy --config-file ../../pyproject.toml --cache-dir $(CURDIR)/build/mypy -p conveyor
	$(BIN)/actionlint .github/workflows/*.yml
	$(BIN)/zizmor --quiet --offline --persona=auditor .github

format: setup  ## format the template's own code
	$(BIN)/ruff format --config pyproject.toml .
	$(BIN)/ruff check --config pyproject.toml --fix .

# What needs an engine or act, and what is more about git, MLflow's server or a cluster than about the Python.
SAME := act alerts bench delivery_runs demo engine faults github github_parser image image_contents judge kubernetes ledger_broken ledger_damage ledger_events ledger_local ledger_origin ledger_private ledger_where mirror pages platforms rollout workflows_by_hand workflows_grown workflows_run workflows_watch
test-python: setup  ## run the tests that depend on the Python and on the libraries, and on no engine
	NO_SKIPS=1 $(OFF) $(UNCOMPILED) $(BIN)/python -m pytest -n 2 $(SAME:%=--ignore=tests/test_%.py)

## Figures of the documents

# The folder of these packages is only read: none of their code runs.
DATASETS := build/datasets
bench-adopt: setup  ## adopt twelve public data sets, plant faults in them, and write docs/adopt.md
	@cmp -s requirements/bench-adopt.txt $(DATASETS)/installed.txt || $(MAKE) --no-print-directory datasets
	$(OFF) OMP_NUM_THREADS=1 $(BENCH) bench/adopt.py

datasets:
	@$(PYTHON) -m venv --clear $(DATASETS)
	@$(BIN)/uv pip install --quiet --require-hashes --python $(DATASETS)/bin/python -r requirements/bench-adopt.txt \
	  || $(DATASETS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench-adopt.txt
	@cp requirements/bench-adopt.txt $(DATASETS)/installed.txt

bench-gate: setup  ## measure how often the gate is right, and write docs/gate.md
	OMP_NUM_THREADS=1 $(BENCH) bench/gate.py

bench-looks: setup  ## measure years of challengers by the rule of their levels, and write docs/gate-looks.md
	OMP_NUM_THREADS=1 $(BENCH) bench/looks.py

# What the alarm is compared with has a lock and an environment of its own: river is nothing that the tests need.
bench-watch: setup  ## measure false alarms and delays of the alarm on live loss, and write docs/watch.md
	@cmp -s requirements/bench-watch.txt build/river/lock.txt || { $(PYTHON) -m venv --clear build/river \
	  && build/river/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench-watch.txt \
	  && cp requirements/bench-watch.txt build/river/lock.txt; }
	OMP_NUM_THREADS=1 nice env $(BENCH) bench/watch.py

bench-replay: setup  ## replay 2013 with three policies of retraining, and write docs/replay.md
	OMP_NUM_THREADS=1 $(BENCH) bench/replay.py

bench-faults: setup  ## races, kills, bad servers: what the ledger survives; its table goes to docs/ledger.md
	$(BENCH) bench/faults.py

bench-ledger: setup  ## what a ledger costs as it grows; writes docs/ledger.md
	$(BENCH) bench/ledger.py

bench-image: setup  ## build and start the image and MLflow's, and write docs/image.md
	$(OFF) $(BENCH) bench/image.py

bench-serve: setup  ## measure how fast the service answers, and write docs/serving.md
	$(OFF) OMP_NUM_THREADS=1 $(BENCH) bench/serve.py

bench-rollout: setup  ## what clients see of rollouts, good and bad ones, and write docs/rollout.md
	$(OFF) $(BENCH) bench/rollout.py

bench-workflows: setup  ## which test misses each command of the workflows that changed (WORKFLOWS=ALL: of all of them)
	$(OFF) $(BIN)/python bench/workflow_coverage.py $(WORKFLOWS)

## Generated files

# Writing the files makes those tests fail: what is new has to be looked at and committed before they pass again.
seal:  ## write the digests of the machinery (VERSION=1.4.0: and another version) into its SEAL
	@$(BENCH) tools/seal.py

golden: setup  ## write the golden reports of tests/golden anew
	-@GOLDEN=write $(BIN)/python -m pytest -q tests/test_report.py -k golden_one
	@git status --short tests/golden

docs: setup  ## write docs/workflows.md from the workflows
	@$(BIN)/python tools/workflows.py

RESOLVE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
  -c '$(PRODUCT)/requirements/dev.txt'
RESOLVED := requirements/dev.in -o requirements/dev.txt
lock: setup  ## resolve requirements/dev.in again, within the lock of the product
	$(RESOLVE) $(RESOLVED)

datasets-lock: setup  ## resolve requirements/bench-adopt.in again: the packages whose data `make bench-adopt` takes
	$(RESOLVE) requirements/bench-adopt.in -o requirements/bench-adopt.txt

# Nothing is installed between the two: one new lock and one old one contradict each other.
upgrade: setup  ## bring the locks of product and template to the newest versions
	$(MAKE) --no-print-directory -C '$(PRODUCT)' lock UPGRADE=1 VENV=$(abspath $(VENV))
	$(RESOLVE) $(RESOLVED) --upgrade

sample-data: setup  ## make the sample data again
	$(BIN)/python tools/sample_data.py

## Releases

# These three need nothing but Python: they run in jobs that may write, where nothing is installed.
release-files:  ## write archive, sums and notes of TAG to build/release
	@$(PYTHON) tools/release.py files

release:  ## publish build/release as the release of TAG; the workflow `release` does it
	@$(PYTHON) tools/release.py publish

tell:  ## open or close the issue about the newest versions, by RESULT; the workflow `newest` does it
	@$(PYTHON) tools/tell.py
