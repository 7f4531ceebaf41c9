"""Make figB2: python scripts/figB2.py [seed=0]."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure
from replication.experiments.plots import figB2
from replication.experiments.results import Result
from replication.experiments.studies.causal_inverses import causal_inverses


@hydra.main(config_path="../conf", config_name="figB2", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    make_figure(
        "figB2",
        config,
        study=lambda: Result(causal_inverses(**instantiate(config.study))),
        draw=figB2.draw,
    )


if __name__ == "__main__":
    main()
