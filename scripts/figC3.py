"""Make figC3 from the records of its trainings: python scripts/figC3.py [retrain=true]."""

from typing import Any

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, folders, make_figure, variant
from replication.experiments.keeping import Trainings
from replication.experiments.plots import figC3
from replication.experiments.results import Result
from replication.experiments.studies.data_share import data_share
from replication.experiments.training import trained_record


@hydra.main(config_path="../conf", config_name="figC3", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    data = instantiate(config.data)
    where, subset = folders(config), config.subsets[data.name]
    trainings = Trainings(where.weights / "figC3", where.runs / "figC3", config.retrain)

    def record(network: str, share: float, seed: int) -> dict[str, Any]:
        own = config.networks[network]
        changes = {
            "data": config.data.get(data.name, config.data),  # found once for all runs
            "data.share": share * subset.share,
            "data.batch_size": subset.batch_size,
            "seed": seed,
            "unit": {"family": network},
            "network": own.network,
            "training.penalty": own.penalty,
            "trainer.max_steps": own.times * config.trainer.max_steps,
            "trainer.enable_progress_bar": False,  # there is one of all runs
        }
        return trained_record(variant(config, changes), trainings)

    make_figure(
        "figC3",
        config,
        study=lambda: Result(data_share(record, list(config.networks), config.shares, config.seeds)),
        draw=figC3.draw,
        data=data,
    )


if __name__ == "__main__":
    main()
