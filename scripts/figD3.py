"""Make figD3: python scripts/figD3.py [seed=0] [study.expansivity=2.1]."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure
from replication.experiments.plots import figD3
from replication.experiments.studies.wedge import wedges


@hydra.main(config_path="../conf", config_name="figD3", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    data = instantiate(config.data)
    make_figure(
        "figD3",
        config,
        study=lambda: wedges(data, **instantiate(config.study, _convert_="all")),
        draw=figD3.draw,
        data=data,
    )


if __name__ == "__main__":
    main()
