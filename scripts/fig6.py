"""Make fig6: python scripts/fig6.py [seed=0] [ensemble=gaussian]."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure
from replication.experiments.plots import fig6
from replication.experiments.results import Result
from replication.experiments.studies.verdicts import verdicts


@hydra.main(config_path="../conf", config_name="fig6", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    make_figure(
        "fig6",
        config,
        study=lambda: Result(verdicts(**instantiate(config.sweep))),
        draw=fig6.draw,
    )


if __name__ == "__main__":
    main()
