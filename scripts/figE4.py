"""Make figE4: python scripts/figE4.py [data=digits]."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure
from replication.experiments.plots import figE4
from replication.experiments.results import Result
from replication.experiments.studies.path_generalisation import paths_and_norms


@hydra.main(config_path="../conf", config_name="figE4", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    data = instantiate(config.data)
    make_figure(
        "figE4",
        config,
        study=lambda: Result(paths_and_norms(data, **instantiate(config.study, _convert_="all"))),
        draw=figE4.draw,
        data=data,
    )


if __name__ == "__main__":
    main()
