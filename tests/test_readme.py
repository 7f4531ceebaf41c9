"""The README: its code runs, its links lead somewhere, and its figures come from the committed tables."""

import io
import re
import subprocess

import pandas as pd
import pytest
import torch
from conftest import ROOT

from replication.studies.memory import slope

TEXT = (ROOT / "README.md").read_text()
OF_PAPER_C = ("figC1", "figC2", "figC3", "tableC")
OF_PAPER_B = ("figB1", "figB2", "figB3", "figB4")


def test_its_python_runs() -> None:
    torch.manual_seed(0)
    shared: dict[str, object] = {}  # later blocks go on from earlier ones
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(compile(block, "README.md", "exec"), shared)


def test_its_files_exist() -> None:
    for path in re.findall(r"\]\(((?!http|#)[^)]+)\)", TEXT):
        assert (ROOT / path).is_file(), path


def committed(name: str) -> pd.DataFrame:
    """A table as it was committed, whatever has been made since."""
    try:
        shown = subprocess.run(
            ["git", "-C", str(ROOT), "show", f"HEAD:figures/{name}.csv"], capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return pd.read_csv(io.BytesIO(shown.stdout))


def test_its_numbers_are_those_of_the_committed_tables() -> None:
    for name in ("fig2", "fig3"):
        sweep = committed(name)
        row = next(line for line in TEXT.splitlines() if line.startswith(f"| {name} "))
        at_two = sweep[sweep["gamma"].round(6) == 2].set_index(["ensemble", "quantity"])
        gaussian = [("gaussian", quantity) for quantity in ("existing", "proposed", "exact", "p_matrix")]
        for case in (("gram", "existing"), *gaussian):
            percent, low, high = at_two.loc[case, ["percent", "ci_low", "ci_high"]]
            assert f"{percent:.1f} % [{low:.1f}, {high:.1f}]" in row
        percent = sweep.pivot(index=["ensemble", "gamma"], columns="quantity", values="percent")
        assert (percent["exact"] >= percent["p_matrix"]).all()
    errors = committed("fig5").groupby(["method", "dtype"])["relative_error_percent"]
    assert 4.2e-9 < errors.max()["proposed", "float64"] <= 4.35e-9
    assert f"{errors.max()['proposed', 'float32']:.4f} % in float32" in TEXT
    existing = errors.min()["existing", "float64"], errors.max()["existing", "float64"]
    assert "{:.0f} to {:.0f} % in float64".format(*existing) in TEXT
    caps = committed("fig8").query("dtype == 'float32'")
    small = caps[caps["norm_cap"] <= 3]
    row = next(line for line in TEXT.splitlines() if line.startswith("| fig8 "))
    for name, form in (("test_accuracy", "{:.2f} to {:.2f} %"), ("forward_passes", "{:.1f} to {:.1f} forward passes")):
        assert form.format(small[name].min(), small[name].max()) in row
    for run in (caps[caps["norm_cap"] == 12], caps[caps["norm_cap"].isna()]):
        assert f"{run['test_accuracy'].item():.2f} % at {run['forward_passes'].item():.1f}" in row
    passes = committed("table1").query("family == 'monotone'")["inverse_forward_passes"]
    assert f"{passes.mean():.1f} ± {passes.std():.1f} forward passes" in TEXT
    families = committed("table1").groupby("family")["test_accuracy"]
    for accuracy in (*families.get_group("monotone"), *families.get_group("standard")):
        assert f"{accuracy:.2f}" in TEXT


def test_its_benchmark_is_the_committed_one() -> None:
    table = committed("bench_solvers")
    shown = table[(table["ensemble"] == "monotone") & (table["gamma"] == 2)].set_index(["n", "method"])
    for n in (5, 10, 20, 50, 100):
        row = next(line for line in TEXT.splitlines() if line.startswith(f"| {n} | "))
        numbers = [float(cell) for cell in row.strip("| ").split(" | ")[1:]]
        methods = ("existing", "proposed", "lcp_lemke", "exact", "exact, checked")
        expected = [shown.loc[(n, method), "microseconds_per_case"] for method in methods]
        assert numbers[:-1] == pytest.approx(expected, rel=6e-3)
        assert numbers[-1] == pytest.approx(shown.loc[(n, "exact"), "times_faster_than_lemke"], abs=0.051)
    exact = table[table["method"] == "exact"]
    assert (exact["p_solved"] == exact["p_cases"]).all()
    assert f"All of the {exact['p_cases'].sum():,} certified P-matrix cases" in TEXT
    decided = committed("fig6").query("1.999 < gamma < 2.001").set_index("quantity")["percent"]
    assert f"{decided['monotone']:.1f} % are monotone, {decided['p_matrix']:.1f} % are P-matrices only" in TEXT
    assert f"{decided['collision']:.1f} % provably collide" in TEXT
    network = committed("bench_network")
    whole = network[(network["network"] == "monotone") & (network["layer"] == "network")]
    passes = whole.set_index(["dtype", "batch", "solver"])["forward_passes"]
    assert f"{passes['float32', 1000, 'chebyshev']:.0f} forward passes with `chebyshev`" in TEXT
    curve = network[(network["network"] == "lipschitz") & (network["tolerance"] == 1e-10)]
    evaluations = curve.set_index("solver")["evaluations"]
    words = " ".join(TEXT.split())
    assert f"{evaluations['existing']:.0f} against {evaluations['anderson']:.0f} evaluations" in words
    curve = network[(network["network"] == "contraction") & (network["tolerance"] == 1e-10)].set_index("solver")
    existing, anderson = curve.loc["existing"], curve.loc["anderson"]
    assert f"{existing['evaluations']:.0f} evaluations and `anderson` {anderson['evaluations']:.0f}," in words
    assert anderson["error_max"] <= existing["error_max"]
    assert 3 * anderson["evaluations"] <= existing["evaluations"]


def test_its_numbers_of_paper_b_are_those_of_the_committed_tables() -> None:
    rows = {name: next(line for line in TEXT.splitlines() if line.startswith(f"| {name} ")) for name in OF_PAPER_B}
    blocks = committed("figB1")
    at_16 = blocks[(blocks["gamma"].round(6) == 16) & (blocks["quantity"] == "p_matrix")].set_index("ensemble")
    for block in ("1 channel, 1 hidden, 3×3", "2 channels, 2 hidden, 3×3"):
        shares = [at_16.loc[block].set_index("padding").loc[padding] for padding in ("all sides", "one corner")]
        sides, corner = (f"{row['percent']:.1f} % [{row['ci_low']:.1f}, {row['ci_high']:.1f}]" for row in shares)
        assert f"{sides} against {corner}" in rows["figB1"]
    counts = blocks[blocks["padding"] == "one corner"].pivot(
        index=["ensemble", "gamma"], columns="quantity", values="count"
    )
    assert (counts["first_tap"] == counts["p_matrix"]).all()
    assert (counts["p_matrix"] - counts["exact"]).max() == 4
    assert f"all {500 * len(counts):,} cases" in rows["figB1"]

    inverses = committed("figB2")
    double = inverses[(inverses["dtype"] == "float64") & (inverses["method"] == "substitution")]
    recovered = double[(double["scale"] <= 8) & (double["size"] <= 28)]
    assert (recovered["norm_A"][recovered["scale"] > 1] >= 5).all()
    assert (recovered["relative_error_max"] <= 1e-8).all()
    converged = double[double["converged_percent"] == 100]
    ratio = converged["expected_error_median"] / converged["relative_error_median"]
    assert 0.55 < ratio.min() < 0.65
    assert 140 < ratio.max() < 155
    worst = double[double["size"] == 28].set_index("scale")["relative_error_max"]
    assert 3.65e-15 < worst[2] < 3.75e-15
    assert 1.85e-9 < worst[8] < 1.95e-9
    assert (double[(double["scale"] == 32) & (double["size"] == 28)]["ill_conditioned_percent"] == 100).all()
    substitution = inverses[(inverses["method"] == "substitution") & (inverses["converged_percent"] == 100)]
    at_28 = substitution[substitution["size"] == 28]
    assert (at_28["forward_passes"] <= 40).all()
    double = inverses[(inverses["size"] == 28) & (inverses["dtype"] == "float64")].set_index(["method", "scale"])
    assert (double.loc["jacobi", "converged_percent"] == 100).all()
    jacobi = double.loc["jacobi", "forward_passes"]
    assert f"`jacobi` {jacobi.min():.0f} to {jacobi.max():.0f}" in rows["figB2"]
    newton = double.loc["newton", "forward_passes"]
    assert f"takes {newton[0.5]:.0f}, {newton[2.0]:.0f} and {newton[8.0]:.0f} up to" in rows["figB2"]
    passes = at_28.groupby("dtype")["forward_passes"]
    for dtype in ("float64", "float32"):
        shown = f"{passes.min()[dtype]:.1f} to {passes.max()[dtype]:.1f} forward passes in {dtype}"
        assert shown in rows["figB2"]

    digits = committed("figB3").groupby(["network", "method"])["relative_error_percent"]
    assert (digits.max()["causal", "substitution"] / 100) <= 1e-6
    assert f"{digits.median()['causal-uncapped', 'substitution'] / 100:.1e}" == "2.1e-04"
    assert f"{digits.max()['causal-uncapped', 'substitution'] / 100:.1e}" == "7.9e-03"
    assert f"{digits.max()['causal', 'substitution'] / 100:.1e}" == "7.9e-13"
    flows = committed("figB4")
    for capped in (False, True):
        bits = flows[flows["norm_cap"].notna() == capped]["held_out_bits"]
        assert f"{bits.mean():.2f} " in rows["figB4"]
    assert (flows["samples_converged"] == flows["samples"]).all()
    causal = committed("table1").query("family == 'causal'")
    row = next(line for line in TEXT.splitlines() if line.startswith("| table1, `causal` "))
    for accuracy in causal["test_accuracy"]:
        assert accuracy >= 99
        assert f"{accuracy:.2f}" in row
    assert (causal["certified_units"] == causal["units"]).all()
    assert (causal["recovered_percent_auto"] == 100).all()


def test_its_numbers_of_injective_layers_are_those_of_the_committed_tables() -> None:
    def line(name: str) -> str:
        return next(row for row in TEXT.splitlines() if row.startswith(f"| {name} "))

    gaussian = committed("figD1")
    exact = gaussian[gaussian["quantity"] == "injective"].set_index(["n", "m"])
    for n in (2, 6):
        percent, low, high = exact.loc[(n, 5 * n), ["percent", "ci_low", "ci_high"]]
        assert f"{percent:.1f} % [{low:.1f}, {high:.1f}]" in line("figD1")
    large = gaussian[gaussian["n"] == 100].set_index("quantity")
    searched, bound = large.loc["not_refuted"], large.loc["union_bound"]
    assert f"up to m/n = {searched.query('percent == 0')['expansivity'].max():.2f}" in line("figD1")
    assert f"95 % injective from {bound.query('percent >= 95')['expansivity'].min():.2f} on" in line("figD1")
    direction = committed("figD2").set_index(["n", "m"])
    for n, c in ((500, 3.3), (500, 3.5), (5000, 3.3), (5000, 3.5)):
        assert f"{direction.loc[(n, round(c * n)), 'percent']:.0f} %" in line("figD2")
    wedge = committed("figD3").set_index(["layer", "image"])
    assert wedge.loc["injective", "relative_error"].max() <= 6e-13
    other = wedge.loc[("gaussian", "other")]
    assert f"{100 * other['distance'].min():.0f} to {100 * other['distance'].max():.0f} % of their length" in line(
        "figD3"
    )
    assert other["output_distance"].max() < 2.5e-15
    stable = committed("figD4").query("layer == 'gaussian' and n == 4")
    medians = stable.groupby("expansivity")[["sigma_lower", "amplification_max"]].median()
    for c in (6, 12):
        assert f"{medians.loc[c, 'sigma_lower']:.2f} at" in line("figD4")
    injective = stable[stable["sigma_lower"] > 0]
    smallest = (injective["smallest_ratio"] / injective["sigma_lower"]).min()
    assert f"over {len(injective)} injective" in TEXT
    assert f"is {smallest:.2f}σ" in TEXT


def test_its_numbers_of_reversible_networks_are_those_of_the_committed_tables() -> None:
    rows = {name: next(line for line in TEXT.splitlines() if line.startswith(f"| {name} ")) for name in OF_PAPER_C}
    errors = committed("figC1")
    deep = errors[errors["dtype"].eq("float64") & errors["setting"].eq("h = 1, normalised") & errors["layers"].eq(1200)]
    largest = deep.set_index("network")["error_max"]
    assert [f"{largest[name]:.1e}" for name in ("hamiltonian", "midpoint", "leapfrog")] == [
        "4.3e-13", "1.2e-12", "2.2e-10",
    ]  # fmt: skip
    unstable = errors[errors["setting"].str.contains("biases, kernels") & errors["layers"].eq(400)]
    lost = unstable[unstable["network"].isin(["hamiltonian", "midpoint"])]
    assert (lost["error_median"] > 1).all()

    steps = committed("figC2")
    added = {method: slope(steps, method, 100) for method in ("reversible", "stored")}
    assert f"{added['reversible']:.2f} MB to the peak" in rows["figC2"]
    assert f"{added['stored']:.1f} MB with stored activations" in rows["figC2"]
    share = 100 * added["reversible"] / added["stored"]
    assert share <= 5
    assert f"batches of 100: {share:.1f} %" in rows["figC2"]
    times = steps.groupby("method")["times_stored"].agg(["min", "max"])
    for method, form in (("reversible", "time is {:.2f} to {:.2f} times"), ("revtorch", "revtorch's {:.2f} to {:.2f}")):
        assert form.format(*times.loc[method]) in rows["figC2"]
    peak = steps[steps["layers"] == 1202].set_index("method")["peak_memory_mb"] / 1024
    assert f"{peak['reversible']:.1f} GiB in all, {peak['stored']:.1f} GiB with" in rows["figC2"]

    shares = committed("figC3")
    mean = shares.pivot_table(index="share_percent", columns="network", values="test_accuracy")
    for share in (5, 100):
        ours, theirs = mean.loc[share, "hamiltonian"], mean.loc[share, "resnet"]
        assert f"{ours:.1f} % and{' ResNet' if share == 5 else ''} {theirs:.1f} % at {share} %" in rows["figC3"]
    seconds = shares.groupby("network")["seconds"].sum()
    assert f"takes {seconds['hamiltonian'] / seconds['resnet']:.1f} times" in rows["figC3"]

    networks = committed("tableC")
    trained = networks.dropna(subset=["test_accuracy"])
    assert len(trained) >= 1
    for accuracy in trained["test_accuracy"]:
        assert f"{accuracy:.2f} %" in rows["tableC"]
    assert networks["reconstruction_error_float64"].max() <= 1e-10
    deepest = networks.set_index("network").loc["hamiltonian-1202", "gradient_error_float32"]
    assert 6.5e-3 < deepest == networks["gradient_error_float32"].max() < 7.5e-3
    assert 1.1e-3 < networks["gradient_rounding_float32"].max() < 1.25e-3
