"""Gather the folder of a sweep into one table: python scripts/gather.py FOLDER [TABLE.csv]."""

import sys
from pathlib import Path

from replication.experiments.entry import ending_in_one_sentence
from replication.experiments.files import write_atomically
from replication.experiments.studies.gather import gather


def main(folder: Path, target: Path) -> None:
    sweep = gather(folder)
    write_atomically(target, sweep.table.to_csv(index=False).encode())
    print(f"{len(sweep.table)} rows of {sweep.table['job'].nunique() if len(sweep.table) else 0} jobs in {target}")
    for job, why in sweep.missing.items():
        print(f"job {job} is missing: {why}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("error: name the folder of a sweep: python scripts/gather.py FOLDER [TABLE.csv]")
    place = Path(sys.argv[1])
    with ending_in_one_sentence():
        main(place, Path(sys.argv[2]) if len(sys.argv) == 3 else place / "sweep.csv")
