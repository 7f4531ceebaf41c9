"""bench_network: cost of inverting the network, in forward passes: python scripts/bench_network.py [data=mnist]."""

import hydra
import pandas as pd
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, make_figure, trained
from replication.experiments.plots import bench_network
from replication.experiments.results import Result
from replication.experiments.studies.network_benchmark import contractive_unit, error_curve, network_benchmark


@hydra.main(config_path="../conf", config_name="bench_network", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    data = instantiate(config.data)
    batches = list(config.bench.batches)
    images = data.balanced_test(max(1, -(-max(batches) // data.classes)))[0]
    contractive = config.copy()
    contractive.unit = config.lipschitz
    monotone, lipschitz = trained(config, data), trained(contractive, data)

    def study() -> Result:
        curve = instantiate(config.curve)
        solvers, tolerances = curve["solvers"], curve["tolerances"]
        few = images[:: max(1, len(images) // curve["images"])].double()
        tables = {
            "lipschitz": error_curve(lipschitz, few, solvers, tolerances),
            "contraction": error_curve(
                *contractive_unit(**curve["contractive"], seed=config.seed), solvers, tolerances
            ),
            "monotone": network_benchmark(monotone, images, **instantiate(config.bench)),
        }
        parts = [table.assign(network=name) for name, table in tables.items()]
        return Result(pd.concat(parts, ignore_index=True))

    make_figure(
        "bench_network",
        config,
        study,
        draw=bench_network.draw,
        data=data,
    )


if __name__ == "__main__":
    main()
