"""Basis paths against generalisation (figE4): samples, measures, correlations and tunings, each by another way."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from builders import composed
from hydra.utils import instantiate
from scipy.stats import spearmanr
from torch import nn

from replication import basis_path_norm, basis_paths, path_norm
from replication.experiments.studies.many_networks import Weights
from replication.experiments.studies.measures import penalty_gain, surest_lead
from replication.experiments.studies.path_generalisation import (
    PENALTIES,
    Images,
    begun,
    best_tunings,
    correlations,
    fewer,
    images_of,
    paths_and_norms,
    rank_correlation,
)
from replication.experiments.studies.path_structure import (
    COLUMNS,
    MEASURES,
    counts,
    incidence,
    invariance,
    line,
    permuted,
    rescaled,
)
from replication.path_basis import basis_values

SMALL = [
    "data=digits", "study.correlation.steps=3", "study.correlation.seeds=2", "study.correlation.more_seeds=3",
    "study.correlation.mislabelled=[0,40]", "study.correlation.widths=[4,6]", "study.correlation.width=6",
    "study.correlation.labelled=100", "study.correlation.resamples=20", "study.regularisation.labelled=100",
    "study.regularisation.mislabelled=40", "study.regularisation.steps=3", "study.regularisation.validation=50",
    "study.regularisation.seeds=2", "study.regularisation.width=6",
]  # fmt: skip


@pytest.fixture(scope="module")
def images() -> Images:
    return Images.of(instantiate(composed("figE4", "data=digits").data))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    config = composed("figE4", *SMALL)
    return paths_and_norms(instantiate(config.data), **instantiate(config.study, _convert_="all"))


def module_of(weights: Weights, network: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for W in weights:
        parts += [nn.Linear(W.shape[2], W.shape[1], bias=False), nn.ReLU()]
        parts[-2].weight = nn.Parameter(W[network], requires_grad=False)
    return nn.Sequential(*parts[:-1])


def test_paths_of_small_networks_are_counted_and_rebuilt() -> None:
    found = pd.DataFrame(counts([[2, 3, 2], [3, 2, 4, 2]], 0)).pivot(index="case", columns="quantity", values="value")
    assert found.loc["2-3-2"][["weights", "expected", "rank", "basis", "paths"]].tolist() == [12, 9, 9, 9, 12]
    assert found.loc["3-2-4-2"][["weights", "expected", "rank", "basis", "paths"]].tolist() == [22, 16, 16, 16, 48]
    assert found["rebuild_error"].max() < 1e-13


def test_incidence_marks_the_weights_on_each_path() -> None:
    paths = torch.tensor(list(itertools.product(range(2), range(3), range(2))))
    marked = incidence([2, 3, 2], paths)
    for path, row in zip(paths.tolist(), marked, strict=True):
        first, second = row[:6].reshape(2, 3), row[6:].reshape(3, 2)
        assert first[path[0], path[1]] == second[path[1], path[2]] == 1
        assert row.sum() == 2


def test_changes_leave_the_network_alone_and_measures_move_as_they_must() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = [W.double() for W in begun("he", 3, (5, 6, 4, 2), 1)]
    x = torch.randn(7, 5, dtype=torch.float64)
    for change in (rescaled, permuted):
        other = change(weights, generator)
        for network in range(3):
            assert torch.allclose(module_of(weights, network)(x), module_of(other, network)(x), rtol=1e-10)
    found = pd.DataFrame(invariance([5, 6, 4, 2], 5, 0)).pivot(index="quantity", columns="case", values="value")
    assert found.loc[["basis_sup", "basis_l2", "path_l1", "path_l2"], "rescaled"].max() < 1e-12
    assert found.loc[["l2", "spectral"], "rescaled"].min() > 0.01
    assert found.loc[["path_l1", "path_l2", "l2", "spectral"], "permuted"].max() < 1e-12
    assert found.loc[["basis_sup", "basis_l2"], "permuted"].min() > 0.01


def test_measures_and_penalties_of_many_networks_are_those_of_each() -> None:
    weights = [W.double() for W in begun("he", 3, (5, 6, 4, 2), 2)]
    for network in range(3):
        net = module_of(weights, network)
        basis = basis_paths(net)
        positive, central = basis.values[~basis.negative], torch.cat([basis.values[c] for c in basis.central])
        squares = float(positive.square().sum() + central.abs().log().square().sum())
        expected = {
            "basis_sup": float(basis_path_norm(net)),
            "basis_l2": squares**0.5,
            "path_l1": float(path_norm(net)),
            "path_l2": float(path_norm(net, 2.0)),
            "l2": sum(float(W[network].square().sum()) for W in weights) ** 0.5,
            "spectral": np.prod([np.linalg.norm(W[network].numpy(), 2) for W in weights]),
        }
        for name, value in expected.items():
            assert float(MEASURES[name](weights)[network]) == pytest.approx(value, rel=1e-10)
        assert float(PENALTIES["basis-path norm"](weights)[network]) == pytest.approx(squares, rel=1e-10)
        assert float(PENALTIES["path norm"](weights)[network]) == pytest.approx(expected["path_l2"] ** 2, rel=1e-10)
        assert float(PENALTIES["L2"](weights)[network]) == pytest.approx(expected["l2"] ** 2, rel=1e-10)


def test_central_paths_begin_at_one_with_the_skeleton() -> None:
    he, skeleton = (begun(start, 2, (5, 6, 4, 2), 3) for start in ("he", "skeleton"))
    assert (basis_values(skeleton)[1] == 1).all()
    for W, V in zip(he, skeleton, strict=True):
        assert ((V == W) | (V == 1)).all()


def test_samples_have_as_many_wrong_labels_as_said_and_share_their_images(images: Images) -> None:
    samples = images.samples(50, [0, 10, 20], [4, 4, 5])
    truth = images.labels[samples.rows]
    assert samples.counts.tolist() == [50, 60, 70]
    assert (samples.labels[:, :50] == truth[:, :50]).all()
    assert (samples.labels[:, 50:] != truth[:, 50:]).all()
    assert torch.equal(samples.rows[0], samples.rows[1])
    assert not torch.equal(samples.rows[0], samples.rows[2])
    assert all(len(set(rows)) == 70 for rows in samples.rows.tolist())
    with pytest.raises(ValueError, match="fewer than 10000; ask for fewer"):
        images.samples(10000, [0], [0])


def test_rank_correlations_are_scipys_with_ties_too() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.integers(5, size=(2, 30, 12)).astype(float)
    expected = [spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(rank_correlation(x, y), expected, rtol=1e-12)


def test_correlations_find_what_was_planted() -> None:
    rows = []
    for seed in range(20):
        rows.append(line("network", "gap", seed, start="he", axis="seed", case=0, seed=seed))
        for name in MEASURES:
            value = seed if name == "basis_sup" else -seed if name == "l2" else (7 * seed) % 20
            rows.append(line("network", name, value, start="he", axis="seed", case=0, seed=seed))
    found = pd.DataFrame(correlations(pd.DataFrame(rows, columns=COLUMNS), 200, 0))
    value = found[found["part"] == "correlation"].set_index("quantity")["value"]
    assert (value["basis_sup"], value["l2"]) == (1, -1)
    lead = found.query("part == 'lead' and quantity == 'basis_sup'").set_index("case")
    assert lead.loc["l2", "value"] == 2
    assert (lead["low"] > 0).all()
    assert surest_lead(found, "he", "seed") == lead["low"].min()


def test_the_best_tuning_is_chosen_without_the_test_images() -> None:
    table = pd.DataFrame({
        "method": ["a"] * 4, "factor": [1.0, 1.0, 2.0, 2.0], "rate": 0.1, "seed": [0, 1, 0, 1],
        "validation_error": [5.0, 6.0, 7.0, 8.0], "test_error": [9.0, 9.0, 1.0, 1.0],
    })  # fmt: skip
    found = pd.DataFrame(best_tunings(table, "he")).set_index("quantity")["value"]
    assert found["test_error"].tolist() == [9, 9]
    assert found["factor"] == 1
    assert found["validation_error"] == 5.5


def test_gains_are_over_the_best_rival_less_two_standard_errors() -> None:
    errors = {
        "SGD": [10.0, 12.0, 14.0],
        "L2": [9.0, 9.0, 9.0],
        "path norm": [20.0] * 3,
        "basis-path norm": [7.0, 8.0, 6.0],
    }
    rows = [
        line("regularised", "test_error", value, start="he", case=case, seed=seed)
        for case, values in errors.items()
        for seed, value in enumerate(values)
    ]
    table = pd.DataFrame(rows)
    assert penalty_gain(table, "he", ("L2", "path norm")) == pytest.approx(2 - 2 / np.sqrt(3))
    assert penalty_gain(table, "he", ("SGD",)) == pytest.approx(5 - 2 * np.std([3, 4, 8], ddof=1) / np.sqrt(3))


def test_the_study_has_every_part_on_the_digits(table: pd.DataFrame) -> None:
    assert list(table.columns) == list(COLUMNS)
    assert set(table["part"]) == {"structure", "invariance", "network", "correlation", "lead", "regularised"}
    networks = table[table["part"] == "network"]
    assert networks.groupby(["start", "axis"])["case"].nunique().to_dict() == {
        (start, axis): number for start in ("he", "skeleton") for axis, number in
        (("mislabelled", 2), ("seed", 1), ("width", 2))
    }  # fmt: skip
    wide = networks.pivot(index=["start", "axis", "case", "seed"], columns="quantity", values="value")
    assert (wide["gap"] == wide["test_error"] - wide["train_error"]).all()
    assert set(table[table["part"] == "regularised"]["case"]) == {"SGD", *PENALTIES}


def test_where_images_are_few_all_numbers_shrink_alike() -> None:
    settings = {"labelled": 1000, "mislabelled": [0, 125, 500], "steps": 7}
    assert images_of(settings) == 1500
    assert images_of({"labelled": 1000, "mislabelled": 250, "validation": 1000}) == 2250
    assert fewer(settings, 0.5) == {"labelled": 500, "mislabelled": [0, 62, 250], "steps": 7}
    assert fewer(settings, 1.0) == settings


def test_the_study_repeats_itself(table: pd.DataFrame) -> None:
    config = composed("figE4", *SMALL)
    again = paths_and_norms(instantiate(config.data), **instantiate(config.study, _convert_="all"))
    pd.testing.assert_frame_equal(table, again)
