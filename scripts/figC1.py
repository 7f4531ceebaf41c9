"""Make figC1: python scripts/figC1.py [study.depths=[4,40,400]]."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure
from replication.experiments.plots import figC1
from replication.experiments.results import Result
from replication.experiments.studies.reconstruction import reconstruction


@hydra.main(config_path="../conf", config_name="figC1", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    make_figure(
        "figC1",
        config,
        study=lambda: Result(reconstruction(**instantiate(config.study))),
        draw=figC1.draw,
    )


if __name__ == "__main__":
    main()
