"""Make figB1: python scripts/figB1.py [seed=0] [sweep.cases=500]."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure
from replication.experiments.plots import figB1
from replication.experiments.results import Result
from replication.experiments.studies.padding import padding_sweep


@hydra.main(config_path="../conf", config_name="figB1", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    make_figure(
        "figB1",
        config,
        study=lambda: Result(padding_sweep(**instantiate(config.sweep))),
        draw=figB1.draw,
    )


if __name__ == "__main__":
    main()
