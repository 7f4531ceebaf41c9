"""Make figC2: python scripts/figC2.py [study.repetitions=3]."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure
from replication.experiments.plots import figC2
from replication.experiments.results import Result
from replication.experiments.studies.memory import memory


@hydra.main(config_path="../conf", config_name="figC2", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    make_figure(
        "figC2",
        config,
        study=lambda: Result(memory(**instantiate(config.study))),
        draw=figC2.draw,
    )


if __name__ == "__main__":
    main()
