# Every figure by one command. `make help` lists them.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

FIGURES := fig1 fig2 fig3 fig4 fig5 fig6 fig7 fig8 figB1 figB2 figB3 figB4 figC1 figC2 figC3 figD1 figD2 figD3 figD4 table1 tableC
BENCHES := bench_solvers bench_network bench_sweep
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
RUN := $(VENV)/bin/python

# FAST=1 makes small versions of all figures in outputs/fast, to see that everything works.
ifdef FAST
OUT := outputs/fast
MADE := outputs/made-fast
FAST_SWEEP := sweep.cases=40 sweep.gamma.values=9
OPTIONS_fig2 := $(FAST_SWEEP)
OPTIONS_fig3 := $(FAST_SWEEP)
OPTIONS_fig6 := $(FAST_SWEEP)
OPTIONS_fig5 := per_class=2
OPTIONS_figB1 := sweep.cases=20 sweep.gamma.values=5
OPTIONS_figB2 := study.sizes=[8,16] study.images=[4,2] study.repetitions=1
OPTIONS_figB3 := per_class=1
OPTIONS_figB4 := study.epochs=2 study.seeds=[0]
OPTIONS_table1 := "runs=[{family: monotone, seed: 0}, {family: lipschitz, seed: 0}, {family: causal, seed: 0}, {family: standard, seed: 0}]" \
	per_class=1 cost.per_class=2 cost.repetitions=1
OPTIONS_figC1 := study.depths=[4,40]
OPTIONS_figC2 := study.methods=[stored,reversible] "study.series=[{batch: 4, stages: [[3, 2, 1]]}]" study.repetitions=1
OPTIONS_figC3 := trainer.max_steps=5 shares=[0.05] seeds=[0] +trainer.limit_test_batches=2
OPTIONS_tableC := study.networks=[hamiltonian-74,leapfrog-26,resnet-32] study.size=16
OPTIONS_fig8 := precisions.float32.per_class=2 precisions.float64.per_class=1 repetitions=1
OPTIONS_figD1 := study.exact=[2,3,4] study.searched=[10] study.cases=20 study.searched_cases=5
OPTIONS_figD2 := study.sizes=[100,200] study.trials=20
OPTIONS_figD3 := study.digits=[3] study.towards=[8]
OPTIONS_figD4 := study.sizes=[[3,5]] study.pairs=500
OPTIONS_bench_sweep := bench.cases=20 bench.gamma.values=5 bench.dimensions=[4] bench.sizes=[2,8]
OPTIONS_bench_network := bench.batches=[1,20] bench.repetitions=1
OPTIONS_bench_solvers := bench.cases=50 bench.orders=[5,10] bench.repetitions=2 bench.p_test_cases=500
else
OUT := figures
MADE := outputs/made
endif

# A stamp in $(MADE) says when a figure was made. It goes when a file of the figure is gone, and $(MADE)/data changes
# with the data at hand, so that figures of other data are made anew.
DATA := $(if $(REPLICATION_DATA),$(REPLICATION_DATA),data)
STATE := $(DATA) $(foreach d,MNIST/raw cifar-10-batches-py,$(if $(wildcard $(DATA)/$d/*),with,without) $d)
$(shell mkdir -p $(MADE); \
	[ "$$(cat $(MADE)/data 2>/dev/null)" = "$(STATE)" ] || echo "$(STATE)" > $(MADE)/data; \
	for f in $(FIGURES) $(BENCHES); do for k in csv png pdf json; do [ -f $(OUT)/$$f.$$k ] || rm -f $(MADE)/$$f; done; done)

P := replication
CORE := $(addprefix $P/,checks.py rectifier.py operators.py resolvents.py conjugate_gradients.py rows.py compiled.py conditions.py certificates.py spanning.py stability.py results.py settings.py words.py entry.py \
	plots/style.py plots/replication.mplstyle) $(wildcard $P/solvers/*.py $P/units/*.py) conf/base.yaml conf/paths/default.yaml
SWEEP := $(addprefix $P/,studies/invertibility.py plots/gamma_sweep.py data/ensembles.py) \
	$(wildcard conf/ensemble/*.yaml conf/solver/*.yaml) conf/gamma_sweep.yaml
NETWORK := $(wildcard $P/networks/*.py) $(addprefix $P/,training.py data/images.py data/augmentation.py) \
	$(wildcard conf/data/*.yaml conf/unit/*.yaml conf/network/*.yaml conf/training/*.yaml) conf/train.yaml $(MADE)/data
COLOUR := $(addprefix $P/,training.py data/colour.py data/images.py data/augmentation.py) $(wildcard $P/networks/*.py) \
	$(addprefix conf/,data/cifar10_or_digits.yaml data/cifar10.yaml data/digits.yaml training/paper_c.yaml) $(wildcard conf/trainer/*.yaml) \
	$(MADE)/data
INVERSION := $P/studies/recovery.py $(wildcard conf/solver/*.yaml) conf/inversion.yaml $(NETWORK)

$(MADE)/fig1: $P/studies/architecture.py $(NETWORK)
$(MADE)/fig2 $(MADE)/fig3: $(SWEEP)
$(MADE)/fig6: $P/studies/verdicts.py $(SWEEP)
$(MADE)/fig7: $P/studies/collision.py
$(MADE)/bench_solvers: $(addprefix $P/studies/,benchmark.py lemke_peer.py lemke_process.py timed_process.py) $P/data/ensembles.py $(VENV)/.installed-bench
$(MADE)/bench_sweep: $P/studies/sweep_benchmark.py $(SWEEP) $(VENV)/.installed-bench
$(MADE)/fig4: $P/plots/digits.py
$(MADE)/fig4 $(MADE)/fig5: $(INVERSION) $(wildcard weights/*-monotone-0.safetensors)
$(MADE)/table1: $(addprefix $P/studies/,families.py cost.py) $(INVERSION) $(wildcard weights/*.safetensors)
$(MADE)/fig8: $(addprefix $P/studies/,caps.py cost.py families.py invertibility.py recovery.py) $(NETWORK) $(wildcard conf/solver/*.yaml) \
	$(wildcard weights/*-monotone*.safetensors)
$(MADE)/figB1: $(addprefix $P/,studies/padding.py studies/invertibility.py data/ensembles.py) $(wildcard conf/solver/*.yaml)
$(MADE)/figB2: $(addprefix $P/studies/,causal_inverses.py recovery.py) $(wildcard conf/solver/*.yaml)
$(MADE)/figB3: $P/studies/recovery.py $P/plots/digits.py $(NETWORK) $(wildcard conf/solver/*.yaml) $(wildcard weights/*-causal*.safetensors)
$(MADE)/figB4: $(addprefix $P/studies/,flows.py families.py) $P/plots/digits.py $(wildcard $P/networks/*.py) $P/data/images.py conf/data/digits.yaml
$(MADE)/figC1: $P/studies/reconstruction.py
$(MADE)/figC2: $(addprefix $P/studies/,memory.py step_process.py timed_process.py benchmark.py) $(wildcard $P/networks/*.py) $(VENV)/.installed-bench
$(MADE)/figC3: $P/studies/data_share.py $(COLOUR)
$(MADE)/tableC: $P/studies/presets.py $P/plots/cells.py $(wildcard $P/networks/*.py weights/cifar10-*.json)
$(MADE)/table1: $P/plots/cells.py $P/plots/digits.py
$(MADE)/fig8: $P/plots/digits.py
$(MADE)/figD1: $P/studies/expansivity.py $P/studies/invertibility.py $P/data/ensembles.py
$(MADE)/figD2: $P/studies/expansivity.py $P/studies/invertibility.py $P/data/ensembles.py
$(MADE)/figD3: $P/studies/wedge.py $P/plots/digits.py $(addprefix $P/data/,ensembles.py images.py augmentation.py) $(wildcard conf/data/*.yaml) \
	$(MADE)/data
$(MADE)/figD4: $P/studies/noise.py $P/data/ensembles.py
$(MADE)/bench_network: $(addprefix $P/studies/,network_benchmark.py cost.py recovery.py) $(NETWORK) $(wildcard conf/solver/*.yaml) \
	$(wildcard weights/*-0.safetensors)

$(patsubst %,$(MADE)/%,$(FIGURES) $(BENCHES)): $(MADE)/%: scripts/%.py conf/%.yaml $P/plots/%.py $(CORE) | $(VENV)/.installed
	@$(RUN) scripts/$*.py $(if $(FAST),paths.figures_dir=$(OUT)) $(OPTIONS_$*)
	@touch $@

.PHONY: help figures $(FIGURES) bench claims pictures verify reproduce report plan train train-all test coverage lint setup lock audit clean

help: ## list the targets
	@echo "make TARGET [FAST=1] [REPLICATION_DATA=folder with MNIST/raw]     (durations: two CPU cores)"
	@grep -hE '^[a-zA-Z0-9-]+:.*## ' Makefile | sed -E 's/^([a-zA-Z0-9-]+):.*## /  \1|/' | awk -F'|' '{printf "%-12s %s\n", $$1, $$2}'

figures: $(FIGURES) ## set up and make every figure with its table and record: 80 to 110 min, install aside
	@$(RUN) scripts/summary.py $(OUT)

fig1: $(MADE)/fig1 ## architecture of the network: 5 s
fig2: $(MADE)/fig2 ## γ sweep, rectifier linear transform: 30 s
fig3: $(MADE)/fig3 ## γ sweep, residual unit with a fully-connected layer: 30 s
fig4: $(MADE)/fig4 ## digits recovered from the last hidden layer: 15 s
fig5: $(MADE)/fig5 ## relative errors of 1000 recovered images: 5 min
fig6: $(MADE)/fig6 ## certificates and steps against γ, one ensemble: 30 s
fig7: $(MADE)/fig7 ## a unit that folds the plane, with two colliding points: 5 s
fig8: $(MADE)/fig8 ## accuracy against the cost of the inverse, by the cap on ‖A‖: 8 min
figB1: $(MADE)/figB1 ## random convolutional blocks by padding, against γ: 2 min
figB2: $(MADE)/figB2 ## inverses of causal units by image size and kernel scale: 5 to 14 min
figB3: $(MADE)/figB3 ## digits through causal networks and back: 1 to 3 min
figB4: $(MADE)/figB4 ## flows of causal units, likelihoods and samples: 4 to 9 min
figC1: $(MADE)/figC1 ## reversible networks: error of recomputed states against depth: 30 s
figC2: $(MADE)/figC2 ## reversible networks: memory and time of a training step against depth: 10 min
figC3: $(MADE)/figC3 ## Hamiltonian against ResNet, by the share of training data: 20 to 80 min (CIFAR-10)
figD1: $(MADE)/figD1 ## Gaussian ReLU layers: probability of injectivity against expansivity: 80 s
figD2: $(MADE)/figD2 ## Gaussian ReLU layers: active rows at the adversarial direction: 90 s to 3 min
figD3: $(MADE)/figD3 ## digits that one ReLU layer cannot tell apart: 35 s
figD4: $(MADE)/figD4 ## ReLU layers: inverse Lipschitz constant, and error under noise: 30 s
table1: $(MADE)/table1 ## families of units under one recipe: 8 to 13 min
tableC: $(MADE)/tableC ## networks of paper C, and the accuracy of those that were trained: 1 min

bench: $(BENCHES:%=$(MADE)/%) ## time the solvers beside QuantEcon's lcp_lemke (installs it), the network's inverse, and large sweeps: 25 min


claims: | $(VENV)/.installed ## judge the papers' claims by the tables: figures/claims.csv, claims.md and the README: 2 s
	@$(RUN) scripts/claims.py $(if $(FAST),$(OUT))

train: | $(VENV)/.installed ## train the MNIST network (monotone, seed 0) from scratch; interrupted, it goes on: 15 min
	@$(RUN) scripts/train.py data=mnist

# Every network of table1, fig8, figB3 and tableC: options of scripts/train.py, joined by +.
TRAININGS := $(addprefix data=mnist+, \
	$(foreach u,monotone lipschitz causal standard,$(foreach s,0 1 2,unit=$u+seed=$s)) \
	$(foreach cap,0.9 1.5 6 12,unit.family=monotone-cap$(cap)+unit.make.norm_cap=$(cap)+seed=0) \
	$(foreach s,1 2,unit.family=monotone-cap1.5+unit.make.norm_cap=1.5+seed=$s) \
	unit.family=monotone-uncapped+unit.make.norm_cap=null unit=causal+unit.family=causal-uncapped+unit.make.norm_cap=null) \
	experiment=hamiltonian74_cifar10_brief

train-all: | $(VENV)/.installed ## train every network of table1, fig8, figB3 and tableC: 6 to 9 h
	@$(foreach run,$(TRAININGS),$(RUN) scripts/train.py $(subst +, ,$(run)) &&) true

verify: | $(VENV)/.installed ## recompute every table and compare it with the committed one: 1 h, FAST=1: 2 min
	@$(RUN) scripts/verify.py $(if $(FAST),--fast)

reproduce: | $(VENV)/.installed ## everything from nothing, trainings included; stopped, it goes on: 10 h, FAST=1: 6 to 13 min
	@$(RUN) scripts/reproduce.py $(if $(FAST),--fast)

report: | $(VENV)/.installed ## one page with all figures, claims, numbers and records, figures/index.html: 3 s
	@$(RUN) scripts/report.py $(if $(FAST),$(OUT))

pictures: | $(VENV)/.installed ## draw all pictures anew from their tables, computing nothing: 1 min
	@$(RUN) scripts/redraw.py $(if $(FAST),--folder $(OUT))

plan: # for scripts/verify.py and scripts/reproduce.py: what there is to train and to make, with the options of FAST=1
	@: $(foreach run,$(TRAININGS),$(info train $(subst +, ,$(run))))$(foreach f,$(FIGURES) $(BENCHES),$(info $f $(OPTIONS_$f)))

test: | $(VENV)/.installed-dev ## set up and run the tests: 4 min; ONLY=data: those that need REPLICATION_DATA alone
	@$(RUN) -m pytest -n auto --maxprocesses 4 --dist worksteal $(if $(ONLY),-m $(ONLY))

coverage: | $(VENV)/.installed-dev ## run the tests and show the lines that they do not reach: 8 min
	@$(RUN) -m pytest -n auto --maxprocesses 4 --dist worksteal --cov --cov-report=term-missing:skip-covered

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
	$(call install,.)
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(call install,.[bench])
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(call install,.[dev])
	@touch $@

clean: ## forget which figures are made, and remove Hydra's and Lightning's own output
	rm -rf outputs
