"""Training: every family runs, the same seed gives the same weights, interruption costs nothing, weights are safe."""

from __future__ import annotations

import time
from copy import deepcopy
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from builders import composed, options
from conftest import ROOT
from hydra.utils import instantiate
from omegaconf import DictConfig
from safetensors.torch import load_file
from torch.utils.data import TensorDataset

from replication import MonotoneConvUnit, RectifierNetwork
from replication.experiments import training
from replication.experiments.averaging import averaged
from replication.experiments.data.images import Digits
from replication.experiments.keeping import Trainings
from replication.experiments.records import USED
from replication.experiments.studies.recovery import relative_error
from replication.experiments.training import by_pixels, load_network, train, trained_record
from replication.experiments.weights import load_record, refuse_other_weights, run_name, weights_path
from replication.units import ChannelNormalisation

FAST = ("data=digits", "trainer.max_epochs=2", "trainer.enable_progress_bar=false", "network.units_per_stage=1")


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


FEW = ("++trainer.limit_train_batches=3", "++trainer.limit_test_batches=1")  # batches, where accuracy does not matter


@pytest.fixture
def config() -> DictConfig:
    return composed("train", *FAST)


@pytest.mark.slow
@pytest.mark.parametrize("unit", options("unit"))
def test_every_family_trains_and_loads(unit: str, tmp_path: Path) -> None:
    config = composed("train", *FAST, f"unit={unit}")
    path = train(config, tmp_path, tmp_path / "runs")
    assert path == tmp_path / f"digits-{config.unit.family}-0.safetensors"
    record = load_record(path)
    assert 0 < record["test_accuracy"] < 1
    assert record["epochs"] == 2
    assert record["dataset"].startswith("scikit-learn digits")
    data = instantiate(config.data)
    network = load_network(config, data, tmp_path, tmp_path / "runs")
    images, labels, _ = data.balanced_test(100)
    accuracy = float((network(images).argmax(1) == labels).float().mean())
    assert accuracy == pytest.approx(record["test_accuracy"], abs=1e-3)  # of the very weights that were saved


@pytest.mark.parametrize("overrides", [(f"unit={unit}",) for unit in options("unit")])
def test_fast_dev_run(overrides: tuple[str, ...], tmp_path: Path) -> None:
    train(composed("train", *FAST, *overrides, "trainer.fast_dev_run=true"), tmp_path, tmp_path / "runs")


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    config = composed("train", *FAST, *FEW)
    first, second = (weights_of(train(config, tmp_path / run, tmp_path / run)) for run in ("a", "b"))
    assert same(first, second)
    other = composed("train", *FAST, *FEW, "seed=1")
    assert not same(first, weights_of(train(other, tmp_path, tmp_path)))


def test_choices_are_made_on_held_out_images_and_the_test_images_are_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = composed("train", *FAST, "+data.held_out=100")
    load = Digits.load

    def without_test(self: Digits) -> tuple[TensorDataset, object]:
        return load(self)[0], None  # any look at the test images fails

    monkeypatch.setattr(Digits, "load", without_test)
    path = train(config, tmp_path, tmp_path)
    assert path == tmp_path / "digits-held100-monotone-0.safetensors"  # never in place of committed weights
    record = load_record(path)
    assert "test_accuracy" not in record
    assert record["training_images"] == 697
    assert "in place of the test images" in record["dataset"]
    data = instantiate(config.data)
    network = load_network(config, data, tmp_path, tmp_path)
    data.setup()
    images, labels = data.test.tensors
    accuracy = float((network(images).argmax(1) == labels).double().mean())
    assert record["held_out_accuracy"] == pytest.approx(accuracy, abs=1e-3)


def test_averaged_weights_are_what_is_measured_and_written_and_keep_their_caps(tmp_path: Path) -> None:
    config = composed("train", *SPECIAL, "unit.make.norm_cap=0.1", "training.averaging=0.5")
    network = load_network(config, instantiate(config.data), tmp_path, tmp_path)
    assert all(float(unit.rectifier_map(unit.input_shape).norm_bound) <= 0.1 * (1 + 1e-5) for unit in network.units)
    assert all(unit.certificate().verdict.value == "invertible" for unit in network.units)
    last = train(composed("train", *SPECIAL, "training.averaging=0"), tmp_path / "last", tmp_path / "last")
    whole = train(composed("train", *SPECIAL), tmp_path / "whole", tmp_path / "whole")
    assert not same(weights_of(last), weights_of(whole))
    assert weights_of(last).keys() == weights_of(whole).keys()


def test_channels_that_lie_together_change_nothing_but_rounding() -> None:
    plain = RectifierNetwork(
        (1, 8, 8), 10, partial(MonotoneConvUnit, norm_cap=3.0), hidden=(4,), units_per_stage=2
    ).eval()
    network = deepcopy(plain)
    by_pixels(network)
    images, seen = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0)), []
    network.hidden_layers[-1].register_forward_hook(lambda _, __, y: seen.append(y))
    torch.testing.assert_close(network(images), plain(images))
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_statistics_are_those_of_training_images_as_they_are(tmp_path: Path) -> None:
    config = composed("train", *FAST, *FEW, "+training.statistics=200")
    data = instantiate(config.data)
    network = load_network(config, data, tmp_path, tmp_path)
    data.setup()
    seen = data.train.tensors[0][:200]
    first = next(layer for layer in network.hidden_layers if isinstance(layer, ChannelNormalisation))
    with torch.no_grad():
        for layer in network.hidden_layers:
            if layer is first:
                break
            seen = layer(seen)
    torch.testing.assert_close(first.running_mean, seen.mean((0, 2, 3)))
    torch.testing.assert_close(first.running_var, seen.var((0, 2, 3)), rtol=1e-3, atol=1e-6)


def test_the_average_is_that_of_its_formula() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.BatchNorm1d(1))
    average, expected = averaged(network, 0.5), None
    for number in range(12):
        with torch.no_grad():
            network[0].weight.fill_(number)
            network[1].running_mean.fill_(2 * number)
            network[1].num_batches_tracked.fill_(number)
        average.update_parameters(network)
        decay = min(0.5, (1 + number) / (10 + number))
        expected = number if expected is None else decay * expected + (1 - decay) * number
    assert average.module[0].weight.tolist() == [[pytest.approx(expected)] * 2]
    assert average.module[1].running_mean.tolist() == [pytest.approx(2 * expected)]
    assert int(average.module[1].num_batches_tracked) == 11
    assert not any(parameter.requires_grad for parameter in average.parameters())
    assert network[0].weight.requires_grad


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [("training.precision=half", "precision must be"), ("training.averaging=1.0", "averaging must be at least 0")],
)
def test_impossible_settings_of_a_training_are_refused(setting: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=sentence):
        train(composed("train", *SPECIAL, setting), tmp_path, tmp_path)


def interrupted(config: DictConfig, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start a training that a user interrupts in its second epoch."""
    step = training.Classifier.training_step

    def interrupting(self: training.Classifier, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(training.Classifier, "training_step", interrupting)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            train(config, folder, folder)
    assert not list(folder.glob("*.safetensors"))


SPECIAL = (
    *FAST,
    *FEW,
    "training=averaged",
    "data.augmentation._target_=replication.experiments.data.augmentation.RandomDeformation",
    "+data.augmentation={displacement: 0.3, points: 3, cutout: 2}",
)
REVERSIBLE = ("experiment=hamiltonian74_cifar10", *FAST[:-1], "network.name=midpoint-26", *FEW)


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [(*FAST, *FEW), REVERSIBLE, SPECIAL], ids=["rectifier", "reversible", "averaged"])
def test_an_interrupted_training_goes_on_to_the_same_weights(
    overrides: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = composed("train", *overrides, "trainer.log_every_n_steps=1")
    whole = train(config, tmp_path / "whole", tmp_path / "whole")
    interrupted(config, tmp_path / "cut", monkeypatch)
    resumed = train(config, tmp_path / "cut", tmp_path / "cut")
    assert load_record(resumed)["resumed"]
    assert same(weights_of(whole), weights_of(resumed))
    assert whole.with_suffix(".csv").read_text() == resumed.with_suffix(".csv").read_text()
    assert not list((tmp_path / "cut").rglob("*.ckpt"))  # the next start begins anew


def test_the_time_of_a_figure_holds_that_of_the_trainings_made_for_it(tmp_path: Path) -> None:
    config, trainings = composed("train", *FAST, *FEW), Trainings(tmp_path / "kept", tmp_path / "runs")
    USED.clear()
    record = trained_record(config, trainings)
    assert 0 <= USED.seconds < 1  # spent in this run, which counts it itself
    USED.clear()
    start = time.perf_counter()
    assert trained_record(config, trainings) == record
    spent = time.perf_counter() - start  # hardly any: nothing is trained
    assert record["seconds"] - spent <= USED.seconds <= record["seconds"]
    USED.clear()
    assert USED.seconds == 0


def test_records_that_are_kept_stand_for_their_trainings_and_no_others(tmp_path: Path) -> None:
    config = composed("train", *FAST, *FEW)
    again, trainings = (Trainings(tmp_path / "kept", tmp_path / "runs", retrain) for retrain in (True, False))
    USED.clear()
    record = trained_record(config, again)
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"digits-monotone-0.json"}
    (tmp_path / "runs").rename(tmp_path / "gone")
    USED.clear()
    kept = trained_record(config, trainings)
    assert kept == {key: value for key, value in record.items() if key != "sha256"}
    assert USED.seconds == 0
    assert USED.files == {(tmp_path / "kept" / "digits-monotone-0.json").resolve()}
    assert not (tmp_path / "runs").exists()
    trained_record(composed("train", *FAST, *FEW, "training.label_smoothing=0.1"), trainings)
    assert (tmp_path / "runs" / "digits-monotone-0.safetensors").is_file()
    assert trained_record(config, trainings) == kept  # which another recipe leaves alone
    USED.clear()


def test_an_interrupted_training_of_another_configuration_is_not_continued(
    config: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(config, tmp_path, monkeypatch)
    other = composed("train", *FAST, "training.label_smoothing=0.2")
    with pytest.raises(ValueError, match="interrupted training with another configuration"):
        train(other, tmp_path, tmp_path)


class Trap:
    """What a malicious checkpoint holds: an object that runs code when it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.victim,))


def test_a_checkpoint_that_runs_code_is_refused(
    config: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(config, tmp_path, monkeypatch)
    checkpoint = next(tmp_path.rglob("last.ckpt"))
    victim = tmp_path / "ran"
    torch.save(torch.load(checkpoint, weights_only=True) | {"trap": Trap(victim)}, checkpoint)
    with pytest.raises(ValueError, match=r"checkpoint .* cannot be used"):
        train(config, tmp_path, tmp_path)
    assert not victim.exists()


def test_corrupt_weights_and_records_are_one_sentence(config: DictConfig, tmp_path: Path) -> None:
    path = train(config, tmp_path, tmp_path)
    data, good = instantiate(config.data), path.read_bytes()
    path.write_bytes(good[:-100])
    with pytest.raises(ValueError, match=r"cannot be used .*restore the file, or delete it"):
        load_network(config, data, tmp_path, tmp_path)
    path.write_bytes(good)
    wider = composed("train", *FAST, "unit.hidden=[8,8]")
    with pytest.raises(ValueError, match="cannot be used"):
        load_network(wider, data, tmp_path, tmp_path)
    capped = composed("train", *FAST, "unit.make.norm_cap=7")
    with pytest.raises(ValueError, match=r"were trained with other settings \(unit.make.norm_cap=3.0, not 7"):
        load_network(capped, data, tmp_path, tmp_path)
    with pytest.raises(ValueError, match=r"give the unit a name of its own"):
        train(capped, tmp_path, tmp_path)  # would write over the weights of another unit
    assert path.read_bytes() == good
    path.with_suffix(".json").write_text("{")
    with pytest.raises(ValueError, match=r"record .* is missing or unreadable"):
        load_network(config, data, tmp_path, tmp_path)


def test_weights_of_another_network_are_refused_by_their_record(config: DictConfig, tmp_path: Path) -> None:
    path = train(config, tmp_path, tmp_path)
    turned = composed(
        "train", *FAST, "network.flips=true"
    )  # layers without parameters: the weights would fit by number
    with pytest.raises(ValueError, match=r"cannot be used|other settings \(network.flips=False, not True"):
        load_network(turned, instantiate(config.data), tmp_path, tmp_path)
    longer = composed("train", *FAST, "trainer.max_epochs=5")
    load_network(longer, instantiate(config.data), tmp_path, tmp_path)  # as good as any
    with pytest.raises(ValueError, match=r"steps.max_epochs=\d, not 5"):
        refuse_other_weights(path, longer, ("unit", "network", "training", "steps"))


def test_committed_weights_are_those_of_their_settings() -> None:
    for words in (("data=mnist",), ("data=mnist", "unit=causal"), ("data=mnist", "unit=lipschitz", "seed=2")):
        config = composed("train", *words)
        path = weights_path(config, instantiate(config.data), ROOT / "weights")
        assert path.is_file()
        refuse_other_weights(path, config, ("unit", "network", "training", "steps"))


def test_the_curve_of_a_training_is_kept_beside_its_record(tmp_path: Path) -> None:
    path = train(composed("train", *FAST, "trainer.log_every_n_steps=3"), tmp_path, tmp_path)
    curve = pd.read_csv(path.with_suffix(".csv"))
    steps = load_record(path)["steps"]
    assert curve["step"].tolist() == list(range(2, steps, 3))
    assert (curve["epoch"] == curve["step"] * load_record(path)["epochs"] // steps).all()
    assert curve["train_loss"].iloc[-1] < curve["train_loss"].iloc[0]


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path: Path) -> None:
    config = composed("train", *FAST, "training.scheduler.max_lr=1e30")
    with pytest.raises(RuntimeError, match="lower the learning rate"):
        train(config, tmp_path, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("unit", "seed"), [("monotone", 0), ("monotone", 1), ("monotone", 2), ("lipschitz", 0)])
def test_committed_weights_are_what_their_record_says(unit: str, seed: int, mnist_folder: Path) -> None:
    config = composed("train", "data=mnist", f"unit={unit}", f"seed={seed}", f"paths.data_dir={mnist_folder}")
    data, weights = instantiate(config.data), ROOT / "weights"
    network = load_network(config, data, weights, weights)
    data.setup()
    images, labels = data.test.tensors
    with torch.no_grad():
        predicted = torch.cat([network(part).argmax(1) for part in images.split(1000)])
    record = load_record(weights / f"{run_name(config, data)}.safetensors")
    assert float((predicted == labels).double().mean()) == pytest.approx(record["test_accuracy"], abs=2e-4)
    assert record["test_accuracy"] >= 0.995 or unit != "monotone"


@pytest.mark.slow
def test_the_trained_network_gives_images_back(mnist_folder: Path) -> None:
    config = composed("fig5", "data=mnist", f"paths.data_dir={mnist_folder}")
    data, weights = instantiate(config.data), ROOT / "weights"
    network = load_network(config, data, weights, weights).double()
    images = data.balanced_test(1)[0].double()
    features = network.features(images)
    solvers = instantiate(config.solvers)
    proposed = network.inverse(features, solvers["proposed"], config.tolerance)
    assert proposed.converged.all()
    assert (relative_error(proposed.value, images) <= 1e-8).all()  # 1e-6 %
    assert not network.inverse(features, solvers["existing"], config.tolerance).converged.any()
