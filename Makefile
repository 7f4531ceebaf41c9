# Every figure by one command; `make help` lists all targets. Durations in braces are filled in from the records.

FIGURES := $(basename $(notdir $(wildcard scripts/fig*.py scripts/table*.py)))
BENCHES := $(basename $(notdir $(wildcard scripts/bench_*.py)))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
comma := ,
RUN := $(VENV)/bin/python

# FAST=1 makes small versions of all figures in outputs/fast, to see that everything works.
FLAG := $(if $(FAST),--fast)
OUT := $(if $(FAST),outputs/fast,figures)

.PHONY: help figures $(FIGURES) $(BENCHES) bench claims train train-all verify reproduce reproduce-min report pictures \
	docs docs-serve test test-all coverage lint setup lock audit clean

help: ## list the targets
	@$(or $(PYTHON),python3) scripts/help.py

figures: | $(VENV)/.installed ## set up and make every figure with its table and record: {figures}
	@$(RUN) scripts/make.py $(FLAG)
	@$(RUN) scripts/summary.py $(OUT)

$(FIGURES) $(BENCHES): | $(VENV)/.installed
	@$(RUN) scripts/make.py $(FLAG) $@

bench: | $(VENV)/.installed ## time the solvers beside QuantEcon's lcp_lemke, the network's inverse, and large sweeps: {bench}
	@$(RUN) scripts/make.py $(FLAG) $(BENCHES)

claims: | $(VENV)/.installed ## judge the papers' claims by the tables: figures/claims.csv, claims.md and the README: 2 s
	@$(if $(FAST),echo "small tables say nothing about claims; run: make claims",$(RUN) scripts/claims.py)

train: | $(VENV)/.installed ## train the MNIST network (monotone, seed 0) from scratch; interrupted, it goes on: {train}
	@$(RUN) scripts/train.py data=mnist
train-all: | $(VENV)/.installed ## train all of conf/trainings.yaml, which table1, fig8, fig10, figB3, figB4, figC3, tableC show: {trainings}
	@sed -n 's/^  - //p' conf/trainings.yaml | while read -r run; do $(RUN) scripts/train.py $$run || exit 1; done
	@for figure in $$(sed -n 's/^of_figures: \[\(.*\)\]/\1/p' conf/trainings.yaml | tr -d ,); do \
		$(RUN) scripts/$$figure.py retrain=true || exit 1; done

verify: | $(VENV)/.installed ## recompute every table and compare it with the committed one: {verify}, FAST=1: 2 min
	@$(RUN) scripts/verify.py $(FLAG)

reproduce: | $(VENV)/.installed ## everything from nothing, trainings included; stopped, it goes on: {all}, FAST=1: 6 to 13 min
	@$(RUN) scripts/reproduce.py $(FLAG)

reproduce-min: | $(VENV)/.installed ## what a referee runs: every figure in small, and the quick tables recomputed in full: 10 min
	@$(RUN) scripts/make.py --fast
	@$(RUN) scripts/verify.py --fast

report: | $(VENV)/.installed ## one page with all figures, claims, numbers and records, figures/index.html: 3 s
	@$(RUN) scripts/report.py $(if $(FAST),$(OUT))

pictures: | $(VENV)/.installed ## draw all pictures anew from their tables, computing nothing: 1 min
	@$(RUN) scripts/redraw.py $(if $(FAST),--folder $(OUT))

docs docs-serve: export NO_MKDOCS_2_WARNING := 1
docs: | $(VENV)/.installed-docs ## build the documentation into site/, its numbers from the tables, its code run: 40 s
	@$(VENV)/bin/mkdocs build
docs-serve: | $(VENV)/.installed-docs ## show the documentation while it is edited, at http://127.0.0.1:8000
	@$(VENV)/bin/mkdocs serve

TESTS := $(RUN) -m pytest -n auto --maxprocesses 4 --dist worksteal
test: | $(VENV)/.installed-dev ## set up and run the tests, less those of whole scripts and trainings: 4 min
	@$(TESTS) -m "not slow"
test-all: | $(VENV)/.installed-dev ## run all tests: 9 min; ONLY=data: those that need REPLICATION_DATA alone
	@$(TESTS) $(if $(ONLY),-m $(ONLY))
coverage: | $(VENV)/.installed-dev ## run all tests and show the lines that they do not reach: 12 min
	@$(TESTS) --cov --cov-report=term-missing:skip-covered
lint: | $(VENV)/.installed-dev ## check style and types: 20 s
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy

setup: $(VENV)/.installed-dev ## only set up the virtual environment, with the versions of constraints.txt: minutes, by the network
lock: | $(VENV)/.installed-dev ## write the versions that are installed into constraints.txt; then make all figures anew
	@$(RUN) scripts/lock.py
audit: | $(VENV)/.installed-dev ## look up known vulnerabilities of the versions in constraints.txt (needs the network)
	$(RUN) -m pip install --disable-pip-version-check pip-audit
	$(RUN) -m pip_audit --strict --no-deps --disable-pip -r constraints.txt

# With the versions of the reference run, where constraints.txt has any for this Python and they can be had.
define install
$(RUN) -m pip install --disable-pip-version-check -c constraints.txt -e "$(1)" || { \
	echo "warning: the versions in constraints.txt cannot be had here; going on with others that pyproject.toml allows" >&2; \
	$(RUN) -m pip install --disable-pip-version-check -e "$(1)"; }
endef

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(if $(PYTHON),,echo "error: no Python from 3.10 to 3.13 found; install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1)
	$(PYTHON) -m venv $(VENV)
	$(call install,.[figures$(comma)bench])
	@$(RUN) -m replication.kernels
	@touch $@

$(VENV)/.installed-docs $(VENV)/.installed-dev: $(VENV)/.installed-%: $(VENV)/.installed
	$(call install,.[$*])
	@touch $@

clean: ## forget which figures are made, and remove Hydra's and Lightning's own output
	rm -rf outputs
