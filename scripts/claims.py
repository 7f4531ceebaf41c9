"""Judge the papers' claims by the tables: python scripts/claims.py [figures]. The README sums up those of figures/."""

import sys
from pathlib import Path

from replication.experiments.entry import ending_in_one_sentence
from replication.experiments.files import write_atomically
from replication.experiments.places import FIGURES, ROOT
from replication.experiments.studies.claims import between_marks, judge_all, long_table, summary_table
from replication.experiments.studies.papers import CLAIMS, PAPERS

README = ROOT / "README.md"


def main(folder: Path) -> None:
    table = judge_all(CLAIMS, folder)
    write_atomically(folder / "claims.csv", table.to_csv(index=False, float_format="%.6g").encode())
    write_atomically(folder / "claims.md", long_table(table).encode())
    if folder.resolve() == FIGURES:
        text = between_marks(README.read_text(encoding="utf-8"), "verdicts", summary_table(table, PAPERS))
        write_atomically(README, text.encode())
    for name, rows in table.groupby("claim", sort=False):
        print(f"{name:16} {rows['verdict'].iloc[0]}")
    print(f"wrote {folder / 'claims.csv'} and {folder / 'claims.md'}")


if __name__ == "__main__":
    with ending_in_one_sentence():
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else FIGURES)
