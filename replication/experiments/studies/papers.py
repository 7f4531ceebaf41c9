"""What the papers claim, as far as their abstracts, captions and recalled facts go, and what is claimed beyond them.

A new claim is one more `Claim` in CLAIMS; its measures take the table of the figure that the check names.
"""

from __future__ import annotations

from functools import partial

from replication.experiments.studies.claims import Check, Claim, Rule
from replication.experiments.studies.measures import (
    accuracy_lead,
    branch_excess,
    causal_error,
    certified_percent,
    constant_ratio,
    crossing,
    ensembles_led,
    image_errors,
    least_branch_excess,
    least_excess,
    mean_accuracy,
    padding_lead,
    percent_at,
    tap_disagreements,
    worst_lag,
)
from replication.experiments.studies.memory import slope

PAPERS = {  # the papers by letter, and what is ours
    "A": "Wang, An, Liu, Li: Fixed-point algorithms for inverse of residual rectifier neural networks (2021)",
    "B": "Wang, An, Liu, Li: Invertible residual blocks in deep learning networks (2024)",
    "C": "Chang, Meng, Haber, Ruthotto, Begert, Holtham: Reversible architectures for arbitrarily deep residual neural "
    "networks (2018)",
    "D": "Puthawala, Kothari, Lassas, Dokmanić, de Hoop: Globally injective ReLU networks (2022)",
    "ours": "Any residual map: no paper has it",
    "speed": "How fast the inverses are",
}
OURS = ("fig9",)

INTERVAL = "a Wilson interval of 95 % for 500 cases reaches 0.8 % from 0 or 100 %"
RECOVERED = "the definition of a recovered image: a relative error of at most 10⁻⁶"
COUNT = "a number that the caption fixes"


def paper_of(figure: str) -> str:
    """Return the letter of the paper that a figure belongs to, by its name, or that it is ours.

    >>> [paper_of(name) for name in ("fig1", "table1", "figB2", "tableC", "fig9", "bench_solvers")]
    ['A', 'A', 'B', 'C', 'ours', 'speed']
    """
    if figure in OURS:
        return "ours"
    if figure.startswith("bench"):
        return "speed"
    letter = figure.removeprefix("fig").removeprefix("table")[:1]
    return letter if letter in PAPERS else "A"


def sweep_of_the_paper(name: str, figure: str, unit: str, table: str) -> Claim:
    """Return the claim that a γ sweep of paper A makes: the two sweeps differ in the unit alone."""
    return Claim(
        name,
        f"{figure}, caption; that the proposed method is ahead, abstract",
        f"{figure}: invertible percentage of 500 cases against γ, {unit}, dimension 10.",
        (
            Check(table, "ensembles in which the proposed method is clearly ahead at some γ", ensembles_led,
                  Rule.AT_LEAST, 100, 0, "all, since it is not known which ensemble was meant (A3)", " %"),
            Check(table, "largest clear lead of the existing method, any ensemble and γ", worst_lag,
                  Rule.AT_MOST, 0, 1, "one of 37 γ and six ensembles may stray by about one percent", " %"),
            Check(table, "least recovered at γ < 1 by either method, where A has norm γ",
                  lambda t: percent_at(t, "gamma < 0.99 and quantity in ('existing', 'proposed') "
                                          "and ensemble != 'entrywise'").min(),
                  Rule.AT_LEAST, 100, 1, INTERVAL, " %"),
            Check(table, "cases at each γ", lambda t: t["cases"].min(), Rule.AT_LEAST, 500, 0, COUNT),
        ),
        ("A1" if table == "fig2" else "A2", "A3", "A4", "A5"),
    )  # fmt: skip


CLAIMS = (
    Claim(
        "A-conditions", "abstract", "There are conditions under which hidden layers are invertible.",
        (
            Check("fig2", "recovered by the exact inverse less certified as P-matrix, least of all ensembles and γ",
                  lambda t: least_excess(t, "exact", "p_matrix"), Rule.AT_LEAST, 0, 0.2, "one case of 500", " %"),
            Check("fig3", "the same for the fully-connected unit",
                  lambda t: least_excess(t, "exact", "p_matrix"), Rule.AT_LEAST, 0, 0.2, "one case of 500", " %"),
            Check("fig2", "recovered by the existing method less certified as Lipschitz, least of all",
                  lambda t: least_excess(t, "existing", "lipschitz"), Rule.AT_LEAST, 0, 0.2, "one case of 500", " %"),
        ),
        ("A1", "A2", "A3"),
    ),
    Claim(
        "A-algorithm", "abstract",
        "A new fixed-point algorithm inverts some residual networks that the existing one cannot.",
        (
            Check("fig3", "recovered by the proposed method for A = BBᵀ, γ ≥ 8, least",
                  lambda t: percent_at(t, "ensemble == 'gram' and gamma > 7.9 and quantity == 'proposed'").min(),
                  Rule.AT_LEAST, 100, 1, INTERVAL, " %"),
            Check("fig3", "recovered by the existing method there, most",
                  lambda t: percent_at(t, "ensemble == 'gram' and gamma > 7.9 and quantity == 'existing'").max(),
                  Rule.AT_MOST, 0, 1, INTERVAL, " %"),
            Check("fig5", "images of the trained network recovered by the proposed method",
                  lambda t: 100 * (image_errors(t, "proposed") <= 1e-4).mean(),
                  Rule.AT_LEAST, 100, 0.1, "one image of 1000", " %"),
            Check("fig5", "images recovered by the existing method",
                  lambda t: 100 * (image_errors(t, "existing") <= 1e-4).mean(),
                  Rule.AT_MOST, 0, 0.1, "one image of 1000", " %"),
        ),
        ("A2", "A3", "A4", "A5", "A6"), dataset=None,
    ),
    Claim(
        "A-fig1", "Fig. 1, caption", "Fig. 1: the proposed network architecture.",
        untested="only the caption is at hand; the network here is a reconstruction (A6), drawn in fig1",
    ),
    sweep_of_the_paper("A-fig2", "Fig. 2", "rectifier linear transform", "fig2"),
    sweep_of_the_paper("A-fig3", "Fig. 3", "residual unit with a fully-connected layer", "fig3"),
    Claim(
        "A-fig4", "Fig. 4, caption",
        "Fig. 4: digits, the originals above those recovered by the proposed and by the existing method.",
        (
            Check("fig4", "largest relative error of the proposed method",
                  lambda t: t.query("method == 'proposed'")["relative_error"].max(),
                  Rule.AT_MOST, 0, 1e-6, RECOVERED),
            Check("fig4", "smallest relative error of the existing method",
                  lambda t: t.query("method == 'existing'")["relative_error"].min(),
                  Rule.AT_LEAST, 1, 0.05, "a black image has a relative error of 1: nothing of the digit is left"),
        ),
        ("A4", "A5", "A6"), dataset="MNIST",
    ),
    Claim(
        "A-fig5", "Fig. 5, caption",
        "Fig. 5: relative error rates (%) of recovered images, 100 samples per class, 1000 in total.",
        (
            Check("fig5", "largest error of the proposed method, float64",
                  lambda t: image_errors(t, "proposed").max(),
                  Rule.AT_MOST, 0, 1e-4, RECOVERED, " %"),
            Check("fig5", "smallest error of the existing method, float64",
                  lambda t: image_errors(t, "existing").min(),
                  Rule.AT_LEAST, 100, 5, "a black image has an error of 100 %", " %"),
            Check("fig5", "samples of each class, least",
                  lambda t: t.groupby(["method", "dtype", "digit"]).size().min(), Rule.AT_LEAST, 100, 0, COUNT),
        ),
        ("A4", "A5", "A6"), dataset="MNIST",
    ),
    Claim(
        "A-accuracy", "abstract",
        "A special residual rectifier network, trained on MNIST, is comparable with the state of the art.",
        (
            Check("table1", "test accuracy, mean of three seeds",
                  lambda t: mean_accuracy(t, "monotone"),
                  Rule.AT_LEAST, 99.8, 0.3,
                  "good single networks reach about 99.8 % (recalled, not the paper's); 0.3 % are 30 images", " %"),
            Check("table1", "mean accuracy less that of free units of the same size",
                  lambda t: mean_accuracy(t, "monotone") - mean_accuracy(t, "standard"),
                  Rule.AT_LEAST, 0, 0.1, "the standard error of the difference of two accuracies is 0.09 %", " %"),
        ),
        ("A6",), dataset="MNIST",
    ),
    Claim(
        "A-hidden-layers", "abstract", "The hidden layers of that network are invertible.",
        (
            Check("table1", "units certified, least of three seeds",
                  lambda t: certified_percent(t, "monotone"),
                  Rule.AT_LEAST, 100, 0, "every one", " %"),
            Check("table1", "images recovered from the last hidden layer, least of three seeds",
                  lambda t: t.query("family == 'monotone'")["recovered_percent_proposed"].min(),
                  Rule.AT_LEAST, 100, 1, "one image of 100", " %"),
        ),
        ("A6",), dataset="MNIST",
    ),
    Claim(
        "B-condition", "abstract",
        "A necessary and sufficient condition decides whether a block with one ReLU layer is invertible.",
        (
            Check("fig6", "cases, h = d = 10, that are neither certified nor shown to collide, most at any γ",
                  lambda t: percent_at(t, "quantity == 'unknown'").max(),
                  Rule.AT_MOST, 0, 0.2, "one case of 500 may lie within rounding of the border", " %"),
            Check("fig3", "recovered by the exact inverse less certified as P-matrix, least of all ensembles and γ",
                  lambda t: least_excess(t, "exact", "p_matrix"), Rule.AT_LEAST, 0, 0.2, "one case of 500", " %"),
        ),
        ("A2", "A3"),
    ),
    Claim(
        "B-padding", "abstract",
        "Convolutional blocks are invertible under weak conditions with certain zero padding.",
        (
            Check("figB1", "lead of zeros at one corner in invertible blocks, γ = 16, least of four shapes",
                  padding_lead, Rule.AT_LEAST, 0, 0, "clear of both intervals, which hold the uncertainty", " %"),
            Check("figB1", "cases in which the condition on A₀ alone and the test of the whole matrix disagree",
                  tap_disagreements, Rule.AT_MOST, 0, 3, "1 in 10,000 may lie within rounding of the border"),
            Check("table1", "causal units of trained networks certified, least of three seeds",
                  lambda t: certified_percent(t, "causal"),
                  Rule.AT_LEAST, 100, 0, "every one", " %"),
        ),
        ("A7", "A9"),
    ),
    Claim(
        "B-algorithms", "abstract", "Inverse algorithms for such blocks, shown effective by experiment.",
        (
            *(
                Check("figB2", f"largest error of {method}, 28×28 images, ‖A‖ up to 25",
                      partial(causal_error, method=method), Rule.AT_MOST, 0, 1e-6, RECOVERED)
                for method in ("substitution", "jacobi", "newton")
            ),
            Check("figB3", "largest error over 1000 digits through a trained network and back, by substitution",
                  lambda t: t.query("network == 'causal' and method == 'substitution'")["relative_error_percent"].max(),
                  Rule.AT_MOST, 0, 1e-4, RECOVERED, " %"),
        ),
        ("A7", "A8"),
    ),
    Claim(
        "C-reversible", "abstract", "Three reversible architectures can go arbitrarily deep in theory.",
        (
            Check("figC1", "largest error of the first states, 1200 layers, h = 1, normalised, float64",
                  lambda t: t.query("setting == 'h = 1, normalised' and dtype == 'float64' and layers == 1200 "
                                    "and network != 'revnet'")["error_max"].max(),
                  Rule.AT_MOST, 0, 1e-6, "the definition of a recovered image"),
            Check("tableC", "largest error of a stage's first states over all networks, float64",
                  lambda t: t["reconstruction_error_float64"].max(),
                  Rule.AT_MOST, 0, 1e-10, "far above rounding, and far below what an error would show"),
        ),
        ("A14", "A15", "A16"),
    ),
    Claim(
        "C-memory", "abstract",
        "A memory-efficient implementation need not store the activations of most hidden layers.",
        (
            Check("figC2", "memory that a layer adds, of what it adds with stored activations, batches of 100",
                  lambda t: 100 * slope(t, "reversible", 100) / slope(t, "stored", 100),
                  Rule.AT_MOST, 0, 5, "weights, gradients and momentum grow with depth too", " %"),
            Check("figC2", "peak memory of a training step at 1202 layers, batch of 32",
                  lambda t: t.query("method == 'reversible' and layers == 1202")["peak_memory_mb"].max(),
                  Rule.AT_MOST, 4096, 0, "what modest computational resources have", " MB"),
        ),
        ("A14", "A16"),
    ),
    Claim(
        "C-accuracy", "abstract",
        "On CIFAR-10, CIFAR-100 and STL-10 the networks are superior to or on par with the state of the art.",
        untested="80,000 steps a network need an accelerator; tableC lists what was trained",
    ),
    Claim(
        "C-few", "abstract", "The architectures yield superior results when trained with fewer training data.",
        (
            Check("figC3", "mean accuracy of Hamiltonian less that of ResNet, shares up to 20 %, least",
                  lambda t: accuracy_lead(t[t["share_percent"] <= 20]).min(),
                  Rule.AT_LEAST, 0, 1, "about the standard error of a mean over three seeds", " %"),
        ),
        ("A14", "A16"), dataset="CIFAR-10",
    ),
    Claim(
        "D-below", "recalled", "Gaussian layers with m/n below 3.4 are not injective, as n grows.",
        (
            Check("figD2", "m/n from which half the layers, n = 5000, keep n rows active at the adversarial direction",
                  lambda t: crossing(t, 5000, 50), Rule.CLOSE_TO, 3.4028, 0.05, "the spacing of m/n in the table"),
            Check("figD1", "layers with n = 100 and m/n ≤ 3.4 that the search does not refute, most",
                  lambda t: percent_at(t, "n == 100 and quantity == 'not_refuted' and expansivity < 3.401").max(),
                  Rule.AT_MOST, 0, 5, "one layer of 20", " %"),
        ),
        ("A10", "A11"),
    ),
    Claim(
        "D-above", "recalled", "Gaussian layers with m/n above 10.5 are injective, as n grows.",
        (
            Check("figD1", "union bound of the injective share, n = 100, m/n ≥ 10.5, least",
                  lambda t: percent_at(t, "n == 100 and quantity == 'union_bound' and expansivity >= 10.5").min(),
                  Rule.AT_LEAST, 100, 1, "“with high probability”: 99 %", " %"),
            Check("figD1", "layers with n ≤ 6 that are injective at m/n ≥ 10.5, least",
                  lambda t: percent_at(t, "quantity == 'injective' and expansivity >= 10.5").min(),
                  Rule.AT_LEAST, 100, 3.7, "a Wilson interval of 95 % for 100 cases reaches 3.7 % from 100 %", " %"),
        ),
        ("A10",),
    ),
    Claim(
        "D-minimal", "recalled", "With m = 2n rows a layer is injective only in the form [B; −DB].",
        (
            Check("figD3", "largest error of digits recovered from [B; −B] with some rows more",
                  lambda t: t.query("layer == 'injective'")["relative_error"].max(),
                  Rule.AT_MOST, 0, 1e-6, RECOVERED),
            Check("figD1", "Gaussian layers with m = 2n that are injective, n ≤ 6, most",
                  lambda t: percent_at(t, "quantity == 'injective' and m == 2 * n").max(),
                  Rule.AT_MOST, 0, 3.7, "a Wilson interval of 95 % for 100 cases reaches 3.7 % from 0 %", " %"),
        ),
        ("A10", "A12"),
    ),
    Claim(
        "D-constant", "recalled; two constants are remembered",
        "‖relu(Wx) − relu(Wx′)‖ ≥ C‖x − x′‖ with C = min σ/√(2m), in a later version min σ/√2.",
        (
            Check("figD4", "smallest ratio seen over √½·min σ of its layer",
                  lambda t: constant_ratio(t) * 2**0.5, Rule.AT_LEAST, 1, 1e-6, "rounding, and σ is known to 10⁻⁶"),
            Check("figD4", "the same, over the sharper min σ without √½",
                  constant_ratio, Rule.AT_MOST, 0.5**0.5, 1e-6, "no better constant is possible: it is attained"),
        ),
        ("A13",),
    ),
    Claim(
        "D-digits", "recalled",
        "A layer with n = 784, m/n = 2.1 has digits in directions where it cannot tell them from other images.",
        (
            Check("figD3", "largest distance of the two outputs",
                  lambda t: t.query("layer == 'gaussian'")["output_distance"].max(),
                  Rule.AT_MOST, 0, 1e-12, "rounding of sums of 784 products in float64"),
            Check("figD3", "smallest relative distance of the two inputs",
                  lambda t: t.query("layer == 'gaussian' and image == 'other'")["distance"].min(),
                  Rule.AT_LEAST, 0.1, 0.01, "a tenth of the image's length can be seen"),
        ),
        ("A12",), dataset="MNIST",
    ),
    Claim(
        "D-universal", "recalled",
        "Injective networks approximate every continuous map from n to m ≥ 2n + 1 dimensions.",
        untested="a theorem on approximation; no experiment of finite size speaks to it",
    ),
    Claim(
        "D-projections", "recalled", "Generic projections to 2n + 1 dimensions keep networks injective end to end.",
        untested="no table: sampled pairs in tests/test_injective.py find no collision, which proves nothing",
    ),
    Claim(
        "ours-sound", "ours, not a paper's", "No condition certifies a branch that is no P-matrix in its slopes.",
        tuple(
            Check("fig9", f"P-matrices less those that are {words}, order 10, least of all branches and γ",
                  partial(least_branch_excess, over=condition),
                  Rule.AT_LEAST, 0, 0, "a proof allows no exception", " %")
            for condition, words in (("lipschitz", "Lipschitz"), ("monotone", "monotone"), ("h_matrix", "H-matrices"))
        ),
        ("A3", "A17"),
    ),
    Claim(
        "ours-stable", "ours, not a paper's",
        "Diagonal stability certifies nearly every branch of order 10 that has a P-matrix, at any depth.",
        (
            Check("fig9", "P-matrices less diagonally stable ones, most of all branches and γ",
                  lambda t: branch_excess(t, "p_matrix", "diagonal_stability").max(),
                  Rule.AT_MOST, 0, 10, "one case in ten is what “nearly” leaves", " %"),
            Check("fig9", "diagonally stable cases less monotone ones, most, least of all branches",
                  lambda t: branch_excess(t, "diagonal_stability", "monotone").groupby("branch").max().min(),
                  Rule.AT_LEAST, 20, 0, "a lead that no interval explains", " %"),
        ),
        ("A3", "A17"),
    ),
    Claim(
        "ours-newton", "ours, not a paper's",
        "Newton's method with GMRES brings back as many branches as have P-matrices, and more than the fixed point.",
        (
            Check("fig9", "recovered by Newton with GMRES less P-matrices, order 10, least of all branches and γ",
                  lambda t: branch_excess(t, "newton_gmres", "p_matrix").min(),
                  Rule.AT_LEAST, 0, 0.8, INTERVAL, " %"),
            Check("fig9", "recovered by Newton with GMRES less by the fixed point, most, least of all branches",
                  lambda t: branch_excess(t, "newton_gmres", "existing").groupby("branch").max().min(),
                  Rule.AT_LEAST, 20, 0, "a lead that no interval explains", " %"),
        ),
        ("A3", "A4", "A17"),
    ),
)  # fmt: skip
