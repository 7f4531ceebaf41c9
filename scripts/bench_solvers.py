"""Make bench_solvers: python scripts/bench_solvers.py."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure
from replication.experiments.plots import bench_solvers
from replication.experiments.results import Result
from replication.experiments.studies.benchmark import benchmark


@hydra.main(config_path="../conf", config_name="bench_solvers", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    make_figure(
        "bench_solvers",
        config,
        study=lambda: Result(benchmark(**instantiate(config.bench))),
        draw=bench_solvers.draw,
    )


if __name__ == "__main__":
    main()
