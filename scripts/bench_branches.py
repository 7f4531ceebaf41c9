"""Make bench_branches: python scripts/bench_branches.py [bench.gamma=0.5]."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure
from replication.experiments.plots import bench_branches
from replication.experiments.results import Result
from replication.experiments.studies.branch_benchmark import branch_benchmark


@hydra.main(config_path="../conf", config_name="bench_branches", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    make_figure(
        "bench_branches",
        config,
        study=lambda: Result(branch_benchmark(**instantiate(config.bench))),
        draw=bench_branches.draw,
    )


if __name__ == "__main__":
    main()
