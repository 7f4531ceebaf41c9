"""Make fig9: python scripts/fig9.py [study.orders=[[10,100]]]."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure
from replication.experiments.plots import fig9
from replication.experiments.results import Result
from replication.experiments.studies.branch_conditions import branch_conditions


@hydra.main(config_path="../conf", config_name="fig9", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    make_figure(
        "fig9",
        config,
        study=lambda: Result(branch_conditions(**instantiate(config.study))),
        draw=fig9.draw,
    )


if __name__ == "__main__":
    main()
