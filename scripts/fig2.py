"""Make fig2: python scripts/fig2.py [seed=0] [ensemble=all]."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure
from replication.experiments.plots import fig2
from replication.experiments.results import Result
from replication.experiments.studies.invertibility import sweep


@hydra.main(config_path="../conf", config_name="fig2", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    make_figure(
        "fig2",
        config,
        study=lambda: Result(sweep(**instantiate(config.sweep))),
        draw=fig2.draw,
    )


if __name__ == "__main__":
    main()
