"""The solvers against each other and against QuantEcon's `lcp_lemke`: time and success on the same problems."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.progress import Progress
from torch import Tensor

from replication.conditions import POSITIVE, is_h_matrix, is_lipschitz, is_monotone, is_p_matrix, p_matrix_test
from replication.experiments.data.ensembles import Ensemble, normal
from replication.experiments.studies.lemke_peer import CompiledLemkePeer, LemkePeer
from replication.maps import RectifierEquation
from replication.rows import row_norm
from replication.solvers import Exact, Solution, Solver
from replication.units import RectifierLinear

PEER, COMPILED_PEER, TEST = "lcp_lemke", "lcp_lemke, compiled", "p_matrix test"
SLOW = 2.0  # seconds for all cases
SHORT = 0.005  # seconds that every turn of a method takes at least, by runs one after the other
TESTED_ORDER = 20  # to which every matrix is tested: 500 of order 20 take 10 s


def benchmark(
    ensembles: Mapping[str, Ensemble],
    solvers: Mapping[str, Solver],
    orders: Sequence[int],
    gamma: Sequence[float],
    cases: int,
    repetitions: int,
    tolerance: float,
    seed: int,
    p_test_cases: int,
    p_test_order: int,
) -> pd.DataFrame:
    """Time every method on the same random problems s + A·relu(s) = c, in turns, and count what each solves.

    `lcp_lemke` is called in a loop on (M, q) = (I + A, −c), in a process of its own, and once more in a loop that is
    compiled too: `lcp_lemke, compiled`. `exact` is timed on the same footing, from (A, c) to s; `exact, checked` and
    the other solvers from the unit and y to x, with residuals and statuses. Solved means: the solution satisfies its
    equation to a relative error of `tolerance`.

    Args:
        ensembles, solvers: by name; solvers include "exact".
        orders: values of n.
        gamma: values of ‖A‖.
        cases: problems for each ensemble, n and γ.
        repetitions: timed runs of each method, after one that is not timed.
        tolerance: of the relative residual.
        seed: of the draws.
        p_test_cases, p_test_order: matrices for the timing of the P-matrix test.

    Returns:
        A row for each ensemble, γ, n and method: ensemble, gamma, n, method, cases, solved, p_cases (certified
        P-matrices), p_solved (solved among them), repetitions, seconds_median, seconds_low, seconds_high (of all cases;
        extremes of the repetitions), microseconds_per_case, times_faster_than_lemke,
        times_faster_than_compiled_lemke, peak_memory_mb (of this process so far).

    Raises:
        RuntimeError: if lcp_lemke's process fails; without the extra `bench` it does.
    """
    rows: list[dict[str, object]] = []
    with Progress() as progress:
        task = progress.add_task("benchmark", total=len(ensembles) * len(orders) * len(gamma))
        for name, ensemble in ensembles.items():
            for value in gamma:
                for n in orders:
                    generator = torch.Generator().manual_seed(seed)
                    x = normal(cases, n, generator=generator)
                    units = ensemble.linear(cases, n, torch.tensor([value], dtype=x.dtype), generator)
                    problem = {"ensemble": name, "gamma": value, "n": n, "cases": cases}
                    rows += [problem | row for row in compare(units, x, solvers, repetitions, tolerance)]
                    progress.advance(task)
    A = next(iter(ensembles.values())).matrix(p_test_cases, p_test_order, torch.Generator().manual_seed(seed))
    A = 0.9 * A / torch.linalg.matrix_norm(A, ord=2, keepdim=True)  # all P: no test ends early
    times, results = timed({TEST: lambda: p_matrix_test(A)}, repetitions)
    found = int((results[TEST].signs == POSITIVE).sum())
    rows.append(
        {"ensemble": next(iter(ensembles)), "gamma": 0.9, "n": p_test_order, "cases": p_test_cases, "method": TEST}
        | {"solved": found, "p_cases": found, "p_solved": found} | cost(times[TEST], p_test_cases)
    )  # fmt: skip
    return pd.DataFrame(rows)


@torch.no_grad()
def compare(
    units: RectifierLinear, x: Tensor, solvers: Mapping[str, Solver], repetitions: int, tolerance: float
) -> Iterator[dict[str, object]]:
    """Yield the columns of every method on one set of problems."""
    y = units(x)
    equation = RectifierEquation(units.rectifier_map(tuple(x.shape[1:])), y)
    A, c = equation.map.matrix(), equation.c
    exact = solvers["exact"]
    assert isinstance(exact, Exact)
    certified = certified_p(A)
    problems = list(zip(np.eye(A.shape[-1]) + A.numpy(), -c.numpy(), strict=True))
    with LemkePeer(problems) as looped, CompiledLemkePeer(problems) as compiled:
        peers = {PEER: looped, COMPILED_PEER: compiled}
        runs: dict[str, Callable[[], Any]] = {
            "exact": lambda: exact.walk(A, c)[0],
            **{name: peer.run for name, peer in peers.items()},
        }
        for name, solver in solvers.items():
            label = "exact, checked" if name == "exact" else name
            runs[label] = partial(solver.solve, equation, tolerance)
        times, results = timed(runs, repetitions)
        found = {name: torch.from_numpy(np.stack(peer.solved())) for name, peer in peers.items()}
    results |= {name: c - torch.bmm(A, z.unsqueeze(-1)).squeeze(-1) for name, z in found.items()}
    medians = [float(np.median(times[name])) for name in peers]
    for method, result in results.items():
        solved = result.converged if isinstance(result, Solution) else satisfies(A, c, result, tolerance)
        counts = {"solved": solved, "p_cases": certified, "p_solved": solved & certified}
        columns = {name: int(cases.sum()) for name, cases in counts.items()}
        yield {"method": method} | columns | cost(times[method], len(c), *medians)


def timed(
    runs: Mapping[str, Callable[[], Any]], repetitions: int, warm: bool = False
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Run every method in turns; return the seconds of a run in each of its turns, and its last result.

    The first turn compiles and warms up and is not counted, unless they are `warm`; methods that take longer than SLOW
    in the first that counts have two of them.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    results: dict[str, Any] = {}
    for turn in range(0 if warm else -1, repetitions):
        for name, run in runs.items():
            if turn > 1 and times[name][0] > SLOW:
                continue
            seconds, results[name] = take_turn(run)
            if turn >= 0:
                times[name].append(seconds)
    return times, results


def take_turn(run: Callable[[], Any]) -> tuple[float, Any]:
    """Run a method for SHORT at least, so that its own caches are warm, and return its mean seconds and last result.

    A run that returns a float has timed itself.
    """
    total, count, result = 0.0, 0, None
    while total < SHORT:
        start = time.perf_counter()
        result = run()
        total += result if isinstance(result, float) else time.perf_counter() - start
        count += 1
    return total / count, result


def satisfies(A: Tensor, c: Tensor, s: Tensor, tolerance: float) -> Tensor:
    """Return which rows of s (batch, n) satisfy s + A·relu(s) = c to ‖·‖ ≤ tolerance·‖c‖."""
    residual = s + torch.bmm(A, s.relu().unsqueeze(-1)).squeeze(-1) - c
    return row_norm(residual) <= tolerance * row_norm(c)


def certified_p(A: Tensor) -> Tensor:
    """Return which matrices (cases, n, n) are certified P: by the exact test to TESTED_ORDER, else by a condition."""
    if A.shape[-1] <= TESTED_ORDER:
        return is_p_matrix(A)
    return is_lipschitz(A) | is_monotone(A) | is_h_matrix(A)


def cost(
    seconds: Sequence[float], cases: int, lemke: float = np.nan, compiled_lemke: float = np.nan
) -> dict[str, object]:
    """Return the columns that say how long a method took for all cases, also in the peers' times."""
    median = float(np.median(seconds))
    return {
        "repetitions": len(seconds),
        "seconds_median": median,
        "seconds_low": min(seconds),
        "seconds_high": max(seconds),
        "microseconds_per_case": 1e6 * median / cases,
        "times_faster_than_lemke": lemke / median,
        "times_faster_than_compiled_lemke": compiled_lemke / median,
        "peak_memory_mb": peak_memory_mb(),
    }


def forget_peak_memory() -> None:
    """Begin `peak_memory_mb` anew from the memory in use now, on Linux; elsewhere it goes on."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process so far, or since it was last forgotten."""
    with suppress(OSError):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
