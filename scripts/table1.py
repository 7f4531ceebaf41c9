"""table1: families of units under one training recipe: python scripts/table1.py [per_class=10]."""

import hydra
import pandas as pd
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, folders, make_figure, trained
from replication.experiments.plots import table1
from replication.experiments.results import Result
from replication.experiments.studies.families import certified_cost, family_row
from replication.experiments.studies.recovery import undo
from replication.experiments.weights import load_record, run_name


@hydra.main(config_path="../conf", config_name="table1", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    data = instantiate(config.data)
    images = data.balanced_test(config.per_class)[0].double()
    many = data.balanced_test(config.cost.per_class)[0]

    def row(family: str, seed: int) -> dict[str, object]:
        run = config.copy()
        run.unit, run.seed = config.families[family], seed
        network = trained(run, data)
        record = load_record(folders(run).weights / run_name(run, data))
        solutions = undo(network, images, instantiate(config.solvers), config.tolerance)
        options = {key: value for key, value in instantiate(config.cost).items() if key != "per_class"}
        cost = certified_cost(network, many, **options)
        return family_row(network, record, images, solutions, config.recovery, cost)

    make_figure(
        "table1",
        config,
        study=lambda: Result(pd.DataFrame([row(**run) for run in config.runs])),
        draw=table1.draw,
        data=data,
    )


if __name__ == "__main__":
    main()
