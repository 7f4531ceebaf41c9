"""Make table1: python scripts/table1.py [per_class=10]."""

from collections.abc import Iterator
from typing import Any

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure, trained_with_record, variant
from replication.experiments.plots import table1
from replication.experiments.results import Result
from replication.experiments.studies.families import family_table
from replication.networks import RectifierNetwork


@hydra.main(config_path="../conf", config_name="table1", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    data, cost = instantiate(config.data), instantiate(config.cost)
    images, many = data.balanced_test(config.per_class)[0].double(), data.balanced_test(cost.pop("per_class"))[0]

    def networks() -> Iterator[tuple[RectifierNetwork, dict[str, Any]]]:
        for run in config.runs:
            recipe = config.recipes[run.recipe] if "recipe" in run else {}
            changes = {"unit": config.families[run.family], "seed": run.seed, **recipe}
            yield trained_with_record(variant(config, changes), data)

    make_figure(
        "table1",
        config,
        study=lambda: Result(
            family_table(networks(), images, many, instantiate(config.solvers), config.tolerance, config.recovery, cost)
        ),
        draw=table1.draw,
        data=data,
    )


if __name__ == "__main__":
    main()
