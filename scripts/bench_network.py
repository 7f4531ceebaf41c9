"""Make bench_network: python scripts/bench_network.py [data=mnist]."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure, trained, variant
from replication.experiments.plots import bench_network
from replication.experiments.results import Result
from replication.experiments.studies.network_benchmark import benchmark_of_networks


@hydra.main(config_path="../conf", config_name="bench_network", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    data, bench = instantiate(config.data), instantiate(config.bench)
    images = data.balanced_test(max(1, -(-max(bench["batches"]) // data.classes)))[0]
    monotone, lipschitz = trained(config, data), trained(variant(config, {"unit": config.lipschitz}), data)
    curve = instantiate(config.curve)
    make_figure(
        "bench_network",
        config,
        study=lambda: Result(benchmark_of_networks(monotone, lipschitz, images, bench, curve, config.seed)),
        draw=bench_network.draw,
        data=data,
    )


if __name__ == "__main__":
    main()
