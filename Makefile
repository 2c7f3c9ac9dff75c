# Roofline's front end. `make help` lists the commands.
DEMO   ?= demo
CONFIG ?= $(DEMO)/demo.toml
EXTRA  ?= $(shell nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
WITH   ?= dev
JOBS   ?= 3
PYTHON := .venv/bin/python
READY  := .venv/.ready-$(EXTRA)
export TF_CPP_MIN_LOG_LEVEL ?= 2
export PYTHONUNBUFFERED = 1
export NO_MKDOCS_2_WARNING = 1
ifeq ($(CONFIG),$(DEMO)/demo.toml)  # made where it is not there, and run with random weights without internet
SAMPLE := sample
RANDOM := --allow-random-weights
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo sample test test-fast test-portable features models explain report all check docs reference packages clean \
	bench-extract bench-explain bench-scores bench-report bench-fit bench-heads bench-tiles bench-predict bench-statistics

help:  ## List the commands.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	@test -x $(PYTHON) || python3 -m venv .venv
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRA),$(WITH)]'
	@rm -f .venv/.ready-* && touch $@

setup: $(READY)  ## Make .venv and install the pinned packages (EXTRA=cpu|gpu overrides the choice).

demo: $(READY)  ## Draw a made city, embed it, fit the models, write the report (DEEP=1: train networks too).
	$(PYTHON) -m extract sample --out "$(DEMO)" $(if $(DEEP),--deep --tiles 400 --areas 80)
	@$(MAKE) --no-print-directory all CONFIG="$(DEMO)/demo.toml"

sample: $(READY)
	@test -f "$(DEMO)/demo.toml" || $(PYTHON) -m extract sample --out "$(DEMO)"

test: $(READY)  ## Run the tests by three processes, since many wait (JOBS=1 one after the other).
	$(PYTHON) -m pytest --numprocesses $(JOBS) --dist worksteal

test-fast: $(READY)  ## Run the tests that train no network and start no browser or process.
	$(PYTHON) -m pytest --numprocesses $(JOBS) --dist worksteal -m "not slow"

test-portable: $(READY)  ## Run the fast tests without the calls that only Linux or POSIX has.
	PYTHONPATH=tests/portable $(PYTHON) -m pytest --numprocesses $(JOBS) --dist worksteal -m "not slow"

features: $(READY) $(SAMPLE)  ## Embed every tile (CONFIG=settings.toml, FRESH=1 starts anew, RETRY=1 rejected tiles again).
	$(PYTHON) -m reports check --config "$(CONFIG)"
	$(PYTHON) -m extract run --config "$(CONFIG)" $(RANDOM) $(if $(FRESH),--fresh) $(if $(RETRY),--retry)

models: $(READY) $(SAMPLE)  ## Fit and score the models (CONFIG=settings.toml).
	$(PYTHON) -m models fit --config "$(CONFIG)"

explain: $(READY) $(SAMPLE)  ## Draw heat maps of the kept models, for the report (CONFIG=settings.toml).
	$(PYTHON) -m models explain --config "$(CONFIG)"

report: $(READY) $(SAMPLE)  ## Write the report (CONFIG=settings.toml).
	$(PYTHON) -m reports build --config "$(CONFIG)"

all: features models explain report  ## Run the four stages above one after the other (CONFIG=settings.toml).

check: $(READY)  ## Check layout, lint, types, import contracts and the documentation's links.
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache
	PYTHONPATH=. .venv/bin/mkdocs build --quiet --strict

docs: $(READY)  ## Write the documentation as pages into site/.
	PYTHONPATH=. .venv/bin/mkdocs build --quiet --strict

reference: $(READY)  ## Write docs/commands.md and docs/keys.md from the commands and the settings.
	PYTHONPATH=. $(PYTHON) docs/write_reference.py

packages: $(READY)  ## Draw the packages and their imports into docs/architecture.md.
	PYTHONPATH=. $(PYTHON) docs/draw_packages.py

bench-extract: $(READY)  ## Measure the extraction beside its goals (ARGS="--quick --only pipeline").
	$(PYTHON) -m benchmarks.extract $(ARGS)

bench-explain: $(READY)  ## Measure what a heat map costs beside the passes that it needs.
	$(PYTHON) -m benchmarks.explain $(if $(QUICK),--quick)

bench-fit: $(READY)  ## Measure the fitting beside a careful user's loop, and its other goals (hours; ARGS="--only loop", QUICK=1).
	$(PYTHON) -m benchmarks.fit $(if $(QUICK),--quick) $(ARGS)

bench-scores: $(READY)  ## Measure the scoring of a full-size grid: 36,723 tiles, 207 runs, 7 targets.
	$(PYTHON) -m benchmarks.scores

bench-statistics: $(READY)  ## Simulate what scores, intervals and verdicts say beside what is true (QUICK=1 for a look).
	$(PYTHON) -m benchmarks.statistics $(if $(QUICK),--quick)

bench-report: $(READY)  ## Measure the report of a full-size grid: seconds to build, bytes, seconds to open.
	$(PYTHON) -m benchmarks.report $(if $(QUICK),--quick)

bench-tiles: $(READY)  ## Measure tiles from a made 1 m mosaic, and 64 bands pooled inside tiles.
	$(PYTHON) -m benchmarks.rasters

bench-predict: $(READY)  ## Measure predicting features: tiles/s, and the peak of memory at ten times the tiles (QUICK=1 for a look).
	$(PYTHON) -m benchmarks.predict $(if $(QUICK),--quick)

bench-heads: $(READY)  ## Measure an epoch of head, tail and finetune (QUICK=1 for a look).
	$(PYTHON) -m benchmarks.heads $(if $(QUICK),--quick)

clean:  ## Remove .venv, caches, the demo and everything generated.
	rm -rf .venv artifacts "$(DEMO)" .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
