"""Make fig7: python scripts/fig7.py [points=25]."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure
from replication.experiments.plots import fig7
from replication.experiments.results import Result
from replication.experiments.studies.collision import grid_images


@hydra.main(config_path="../conf", config_name="fig7", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    make_figure(
        "fig7",
        config,
        study=lambda: Result(grid_images(instantiate(config.units, _convert_="all"), config.extent, config.points)),
        draw=fig7.draw,
    )


if __name__ == "__main__":
    main()
