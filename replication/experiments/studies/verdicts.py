"""Certificates of random units against γ, and how many steps each method needs (fig6)."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import torch
from rich.progress import Progress
from torch import Tensor

from replication.certificate import Verdict
from replication.experiments.data.ensembles import Ensemble, normal
from replication.experiments.studies.invertibility import MEDIAN, kind_of_unit, recovered, share
from replication.solvers import Solver
from replication.units import ResidualUnit

SPREAD = MEDIAN | {"iterations_p5": 0.05, "iterations_p95": 0.95}
VERDICTS = ("lipschitz", "monotone", "h_matrix", "triangular", "p_matrix", "unknown", "collision")


def verdicts(
    kind: str,
    ensembles: Mapping[str, Ensemble],
    solvers: Mapping[str, Solver],
    gamma: Tensor,
    cases: int,
    d: int,
    tolerance: float,
    recovery: float,
    seed: int,
) -> pd.DataFrame:
    """Certify random units for each γ, and count the steps of the methods that bring x back.

    Source: assumptions A1 to A5; certificates as `replication.certificate.certify`.

    Args: as `replication.experiments.studies.invertibility.sweep`.

    Returns:
        A row for each ensemble, γ and quantity: ensemble, gamma, quantity, cases, count, percent, ci_low, ci_high,
        iterations_median, iterations_p5, iterations_p95. The quantity is a solver (cases recovered, and the steps of
        these) or what decides the certificate: a condition, "collision" (not invertible) or "unknown"; every case has
        one.

    Raises:
        ValueError: if the kind is unknown.
    """
    rows: list[dict[str, object]] = []
    with Progress() as progress:
        task = progress.add_task("certificates", total=len(ensembles) * len(gamma))
        for name, ensemble in ensembles.items():
            generator = torch.Generator().manual_seed(seed)
            x = normal(cases, d, generator=generator)
            units = kind_of_unit(kind)(ensemble, cases, d, gamma, generator)
            for index, value in enumerate(gamma.tolist()):
                own = [units[unit] for unit in range(index * cases, (index + 1) * cases)]
                columns: dict[str, object] = {"ensemble": name, "gamma": value}
                decided = [deciding(unit) for unit in own]
                for verdict in VERDICTS:
                    held = torch.tensor([verdict == found for found in decided])
                    rows.append(columns | {"quantity": verdict} | share(held, None, SPREAD))
                batch = units[index * cases : (index + 1) * cases]
                for quantity, solver in solvers.items():
                    held, steps = recovered(batch, x, solver, tolerance, recovery)
                    rows.append(columns | {"quantity": quantity} | share(held, steps[held], SPREAD))
                progress.advance(task)
    return pd.DataFrame(rows)


def deciding(unit: ResidualUnit) -> str:
    """Return what decides the unit's certificate: one of VERDICTS."""
    certificate = unit.certificate()
    return certificate.condition or ("unknown" if certificate.verdict is Verdict.UNKNOWN else "")
