"""Make figE5: python scripts/figE5.py [study.depth=1000]."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure
from replication.experiments.plots import figE5
from replication.experiments.results import Result
from replication.experiments.studies.deep_limits import deep_limits


@hydra.main(config_path="../conf", config_name="figE5", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    data = instantiate(config.data)
    make_figure(
        "figE5",
        config,
        study=lambda: Result(deep_limits(data, **instantiate(config.study, _convert_="all"))),
        draw=figE5.draw,
        data=data,
    )


if __name__ == "__main__":
    main()
