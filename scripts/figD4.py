"""Make figD4: python scripts/figD4.py [study.noise=0.01]."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure
from replication.experiments.plots import figD4
from replication.experiments.results import Result
from replication.experiments.studies.noise import noisy_inverses


@hydra.main(config_path="../conf", config_name="figD4", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    make_figure(
        "figD4",
        config,
        study=lambda: Result(noisy_inverses(**instantiate(config.study, _convert_="all"))),
        draw=figD4.draw,
    )


if __name__ == "__main__":
    main()
