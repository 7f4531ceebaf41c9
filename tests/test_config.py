"""Every configuration composes, and every part of it instantiates."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from builders import CONF, composed, options
from hydra.utils import instantiate
from omegaconf import OmegaConf

from replication.experiments.configuration import committed, configuration_of, declared, title_of
from replication.experiments.entry import dataset_of, variant
from replication.experiments.pipeline import figure_names, plan
from replication.experiments.settings import check_settings, chosen_groups
from replication.solvers import SOLVERS, get_solver

ENTRY_POINTS = [*figure_names(), "train"]
GROUPS = ["data", "unit", "network", "training", "trainer", "logger"]


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_every_entry_point_composes_and_resolves(name: str) -> None:
    config = composed(name)
    assert OmegaConf.to_container(config, resolve=True, throw_on_missing=True)["seed"] == 0
    assert name == "train" or config.title


@pytest.mark.parametrize(("group", "option"), [(group, option) for group in GROUPS for option in options(group)])
def test_every_choice_of_a_training_instantiates(group: str, option: str, tmp_path: Path) -> None:
    config = composed("train", f"{group}={option}", "data=digits" if group != "data" else "seed=1")
    if group == "data":
        either = [config.data[name] for name in ("mnist", "cifar10", "digits") if name in config.data]
        for part in either or [config.data]:  # where there is a choice of two, each: to choose means to look for data
            assert instantiate(part).image_shape
    elif group in ("unit", "network"):
        assert instantiate(config.network, image_shape=(1, 8, 8), classes=10).classes == 10
    elif group == "training":
        network = instantiate(config.network, image_shape=(1, 8, 8), classes=10)
        assert instantiate(config.training, network=network).configure_optimizers
    elif group == "logger" and option == "tensorboard":
        assert config.logger._target_ == "pytorch_lightning.loggers.TensorBoardLogger"  # its library is an extra
    elif group == "logger":
        assert instantiate(config.logger, save_dir=str(tmp_path))
    else:
        assert instantiate(config.trainer, max_epochs=1, logger=False, enable_checkpointing=False)


@pytest.mark.parametrize("option", options("experiment"))
def test_every_experiment_composes_and_instantiates(option: str) -> None:
    config = composed("train", f"experiment={option}")
    data = instantiate(config.data)
    network = instantiate(config.network, image_shape=data.image_shape, classes=data.classes)
    module = instantiate(config.training, network=network)
    assert config.unit.family.startswith(config.network.get("name", ("preactivation", "monotone", "causal")))
    if option.startswith("special"):
        assert sum(parameter.numel() for parameter in network.parameters()) <= 300_000
    command = (CONF / "experiment" / f"{option}.yaml").read_text().splitlines()[1]
    assert command.endswith(f"python scripts/train.py experiment={option}")
    if module.penalty is not None:
        with torch.no_grad():  # penalties with a target are zero at first
            for kernel in (parameter for parameter in network.parameters() if parameter.ndim == 4):
                kernel *= 9
        assert float(module.penalty(network).detach()) > 0


@pytest.mark.parametrize("option", options("ensemble"))
def test_every_ensemble_instantiates(option: str) -> None:
    sweep = instantiate(composed("fig2", f"ensemble={option}").sweep)
    assert set(sweep["solvers"]) == {"existing", "proposed", "newton", "exact"}
    assert len(sweep["ensembles"]) == (1 if option != "all" else len(options("ensemble")) - 1)
    assert len(sweep["gamma"]) >= 30
    assert sweep["gamma"].min() < 0.5


@pytest.mark.parametrize("option", options("solver"))
def test_every_solver_instantiates_as_the_one_of_its_name(option: str) -> None:
    made = instantiate(composed("fig2", f"+solver@sweep.solvers.mine={option}").sweep.solvers.mine, _convert_="all")
    assert made == get_solver(option)


def test_every_solver_is_a_choice_and_every_choice_a_solver() -> None:
    assert options("solver") == sorted(SOLVERS)


@pytest.mark.parametrize("name", figure_names())
def test_a_figure_says_in_one_line_what_it_shows_and_what_it_is_made_from(name: str) -> None:
    said = declared(name)
    assert said.title == title_of(name)
    assert "\n" not in said.title
    config = composed(name)
    assert said.get("dataset") or {"data", "study"} & set(config)
    assert not {"title", "dataset", "fast"} & set(configuration_of(config))  # words, not settings


def test_data_are_named_by_their_configuration_or_by_themselves() -> None:
    digits = instantiate(composed("fig4", "data=digits").data)
    assert dataset_of(composed("fig2"), None) == ("random units", None)
    assert dataset_of(composed("fig1", "data=digits"), digits) == (f"the shape of {digits.title}", None)
    assert dataset_of(composed("fig4", "data=digits"), digits) == (digits.title, digits.checksum())
    with pytest.raises(ValueError, match="must say what the figure is made from"):
        dataset_of(composed("fig4"), None)


def test_a_variant_has_other_settings_and_leaves_its_original_alone() -> None:
    config = composed("table1")
    other = variant(config, {"unit": config.families.causal, "seed": 2, "data.share": 0.5})
    assert other.unit == config.families.causal
    assert (other.seed, other.data.share) == (2, 0.5)
    assert config == composed("table1")
    assert other.unit != config.unit


def test_families_of_table1_are_those_of_the_unit_group() -> None:
    config = composed("table1")
    named = {name.replace("_", "-") for name in options("unit")}
    assert {*config.families} == named - {"deep"}  # which are ours, and not trained
    assert {run.family for run in config.runs} == set(config.families)
    for family in config.families:
        assert sorted(run.seed for run in config.runs if run.family == family) == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "override", "sentence"),
    [
        ("fig2", "sweep.cases=abc", "sweep.cases must be a whole number of at least 1, not 'abc'"),
        ("fig3", "sweep.cases=0", "sweep.cases must be a whole number of at least 1, not 0"),
        ("fig6", "sweep.cases=1.5", "sweep.cases must be a whole number of at least 1, not 1.5"),
        ("fig2", "sweep.cases=null", "sweep.cases must be a whole number of at least 1, not None"),
        ("fig2", "sweep.tolerance=0", "sweep.tolerance must be a finite number above 0, not 0"),
        ("fig2", "sweep.tolerance=nan", "sweep.tolerance must be a finite number above 0, not nan"),
        ("fig2", "sweep.gamma.largest=inf", "sweep.gamma.largest must be a finite number above 0, not inf"),
        ("fig2", "sweep.solvers.existing.patience=-1", "patience must be a whole number of at least 0, not -1"),
        ("fig2", "seed=-1", "seed must be a whole number of at least 0, not -1"),
        ("fig5", "trainer.max_epochs=abc", "trainer.max_epochs must be a whole number of at least 1, not 'abc'"),
        ("fig7", "extent=true", "extent must be a finite number above 0, not True"),
        ("fig9", "study.orders=10", "study.orders must be a list that is not empty"),
        ("figB1", "sweep.blocks.0.size=0", "sweep.blocks.size must be a whole number of at least 1, not 0"),
        ("figB2", "study.images=[]", "study.images must be a list that is not empty"),
        ("figC1", "biases.hamiltonian.step=nan", "hamiltonian.step must be a finite number above 0, not nan"),
        ("figC2", "study.series=[{batch: 0, stages: [[1, 1, 1]]}]", "study.series.batch must be a whole number"),
        ("figC2", "study.series=[{batch: 1, stages: [[1, 0, 1]]}]", "study.series.stages must be a whole number"),
        ("figD2", "study.expansivity=[abc]", "study.expansivity must be a finite number above 0, not 'abc'"),
        ("figD4", "study.sizes=3", "study.sizes must be a list that is not empty"),
        ("bench_sweep", "bench.sizes=[0]", "bench.sizes must be a whole number of at least 1, not 0"),
        ("train", "training.optimizer.lr=-1", "training.optimizer.lr must be a finite number above 0, not -1"),
    ],
)
def test_settings_of_another_kind_than_those_in_conf_are_refused(name: str, override: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        check_settings(composed(name, override), composed(name))


def test_every_setting_that_is_used_somewhere_is_taken() -> None:
    fast = plan(fast=True)
    for name, words in [*plan(), *fast]:
        check_settings(composed(name, *words), committed(name, chosen_groups(words)))
    for name in ENTRY_POINTS:
        check_settings(composed(name), composed(name))
    used = ("training.optimizer.weight_decay=0", "unit.make.norm_cap=null", "data.augmentation.shift=0", "threads=2")
    check_settings(composed("train", "data=digits", *used), committed("train", ("data=digits",)))
    check_settings(composed("fig2", "sweep.solvers.proposed.omega=auto"), composed("fig2"))
