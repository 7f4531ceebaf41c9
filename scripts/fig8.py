"""fig8: accuracy against the cost of the inverse, as the cap on ‖A‖ goes: python scripts/fig8.py [repetitions=2]."""

import hydra
import pandas as pd
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, folders, make_figure, trained
from replication.experiments.plots import fig8
from replication.experiments.results import Result
from replication.experiments.studies.caps import cap_row
from replication.experiments.weights import load_record, run_name


@hydra.main(config_path="../conf", config_name="fig8", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    data = instantiate(config.data)

    def rows(family: str, norm_cap: float | None, seed: int) -> list[dict[str, object]]:
        run = config.copy()
        run.unit.family, run.unit.make.norm_cap, run.seed = family, norm_cap, seed
        network = trained(run, data)
        record = load_record(folders(run).weights / run_name(run, data))
        print(f"fig8: {family}, seed {seed}", flush=True)
        images = {name: data.balanced_test(precision.per_class)[0] for name, precision in config.precisions.items()}
        solver, repetitions, test_images = instantiate(config.solver), config.repetitions, len(data.test)
        return [
            cap_row(network, record, test_images, images[name], solver, name, precision.tolerance, repetitions)
            for name, precision in config.precisions.items()
        ]

    make_figure(
        "fig8",
        config,
        study=lambda: Result(pd.DataFrame([row for run in config.runs for row in rows(**run)])),
        draw=fig8.draw,
        data=data,
    )


if __name__ == "__main__":
    main()
