"""Make figE3: python scripts/figE3.py [study.samples=100] [training.steps=200]."""

import hydra
import pandas as pd
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure
from replication.experiments.plots import figE3
from replication.experiments.results import Result
from replication.experiments.studies.initialisations import trainings
from replication.experiments.studies.variance_decay import variance_decay


@hydra.main(config_path="../conf", config_name="figE3", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    data = instantiate(config.data)

    def study() -> Result:
        random = variance_decay(**instantiate(config.study, _convert_="all"))
        trained = trainings(data, **instantiate(config.training, _convert_="all"))
        return Result(pd.concat([random, trained], ignore_index=True))

    make_figure("figE3", config, study=study, draw=figE3.draw, data=data)


if __name__ == "__main__":
    main()
