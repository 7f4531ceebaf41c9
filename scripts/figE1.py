"""Make figE1: python scripts/figE1.py [study.lines=61]."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure
from replication.experiments.plots import figE1
from replication.experiments.studies.network_recovery import recoveries


@hydra.main(config_path="../conf", config_name="figE1", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    make_figure(
        "figE1",
        config,
        study=lambda: recoveries(**instantiate(config.study, _convert_="all")),
        draw=figE1.draw,
    )


if __name__ == "__main__":
    main()
