"""Make figD2: python scripts/figD2.py [seed=0] [study.trials=100]."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure
from replication.experiments.plots import figD2
from replication.experiments.results import Result
from replication.experiments.studies.expansivity import adversarial


@hydra.main(config_path="../conf", config_name="figD2", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    make_figure(
        "figD2",
        config,
        study=lambda: Result(adversarial(**instantiate(config.study, _convert_="all"))),
        draw=figD2.draw,
    )


if __name__ == "__main__":
    main()
