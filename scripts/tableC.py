"""Make tableC: python scripts/tableC.py [study.images=4]."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from replication.experiments.entry import command, folders, make_figure
from replication.experiments.plots import tableC
from replication.experiments.results import Result
from replication.experiments.studies.presets import curves, preset_table


@hydra.main(config_path="../conf", config_name="tableC", version_base="1.3")
@command
def main(config: DictConfig) -> None:
    weights = folders(config).weights

    def study() -> Result:
        table = preset_table(weights, **instantiate(config.study))
        return Result(table, curves(weights, table["run"].dropna() if "run" in table else ()))

    make_figure("tableC", config, study=study, draw=tableC.draw)


if __name__ == "__main__":
    main()
