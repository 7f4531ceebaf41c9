"""Make fig1: python scripts/fig1.py [unit=monotone]."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure
from replication.experiments.plots import fig1
from replication.experiments.results import Result
from replication.experiments.studies.architecture import architecture


@hydra.main(config_path="../conf", config_name="fig1", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    data = instantiate(config.data)
    network = instantiate(config.network, image_shape=data.image_shape, classes=data.classes)
    make_figure(
        "fig1",
        config,
        study=lambda: Result(architecture(network)),
        draw=fig1.draw,
        data=data,
    )


if __name__ == "__main__":
    main()
