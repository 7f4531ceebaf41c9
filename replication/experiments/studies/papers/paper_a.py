"""What paper A claims, as far as its abstract, captions and recalled facts go."""

from __future__ import annotations

from replication.experiments.studies.claims import Check, Claim, Rule
from replication.experiments.studies.measures import (
    certified_percent,
    ensembles_led,
    image_errors,
    least_excess,
    mean_accuracy,
    percent_at,
    worst_lag,
)
from replication.experiments.studies.papers.reasons import COUNT, INTERVAL, RECOVERED


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
                  lambda t: mean_accuracy(t, "monotone-special"),
                  Rule.AT_LEAST, 99.8, 0.3,
                  "good single networks reach about 99.8 % (recalled, not the paper's); 0.3 % are 30 images", " %"),
            Check("table1", "mean accuracy of monotone units less that of free ones, one recipe",
                  lambda t: mean_accuracy(t, "monotone") - mean_accuracy(t, "standard"),
                  Rule.AT_LEAST, 0, 0.1, "the standard error of the difference of two accuracies is 0.09 %", " %"),
        ),
        ("A6",), dataset="MNIST",
    ),
    Claim(
        "A-hidden-layers", "abstract", "The hidden layers of that network are invertible.",
        (
            Check("table1", "units certified, least of three seeds",
                  lambda t: certified_percent(t, "monotone-special"),
                  Rule.AT_LEAST, 100, 0, "every one", " %"),
            Check("table1", "images recovered from the last hidden layer, least of three seeds",
                  lambda t: t.query("family == 'monotone-special'")["recovered_percent_proposed"].min(),
                  Rule.AT_LEAST, 100, 2, "one image of 50", " %"),
        ),
        ("A6",), dataset="MNIST",
    ),
)  # fmt: skip
