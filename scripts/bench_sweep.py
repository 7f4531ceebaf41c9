"""Make bench_sweep: python scripts/bench_sweep.py."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure
from replication.experiments.plots import bench_sweep
from replication.experiments.results import Result
from replication.experiments.studies.sweep_benchmark import sweep_benchmark


@hydra.main(config_path="../conf", config_name="bench_sweep", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    make_figure(
        "bench_sweep",
        config,
        study=lambda: Result(sweep_benchmark(**instantiate(config.bench))),
        draw=bench_sweep.draw,
    )


if __name__ == "__main__":
    main()
