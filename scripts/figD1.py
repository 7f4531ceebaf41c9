"""Make figD1: python scripts/figD1.py [seed=0] [study.cases=200]."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure
from replication.experiments.plots import figD1
from replication.experiments.results import Result
from replication.experiments.studies.expansivity import injectivity


@hydra.main(config_path="../conf", config_name="figD1", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    make_figure(
        "figD1",
        config,
        study=lambda: Result(injectivity(**instantiate(config.study, _convert_="all"))),
        draw=figD1.draw,
    )


if __name__ == "__main__":
    main()
