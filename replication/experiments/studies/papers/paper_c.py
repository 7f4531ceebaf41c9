"""What paper C claims, as far as its abstract, captions and recalled facts go."""

from __future__ import annotations

from replication.experiments.studies.claims import Check, Claim, Rule
from replication.experiments.studies.measures import accuracy_lead, ten_epochs
from replication.experiments.studies.memory import slope

CLAIMS = (
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
        "On CIFAR-10, CIFAR-100 and STL-10 the networks are superior to or on par with the state of the art "
        "(here: CIFAR-10 alone, beside ResNet-32, ten epochs each).",
        (
            Check("tableC", "accuracy of Hamiltonian-74 less that of ResNet-32, ten epochs each on CIFAR-10",
                  lambda t: ten_epochs(t)["hamiltonian-74"] - ten_epochs(t)["resnet-32"],
                  Rule.AT_LEAST, 0, 1, "twice the standard error of a difference on 10,000 images; one seed", " %"),
            Check("tableC", "the same of the midpoint and leapfrog networks, the lower of the two",
                  lambda t: ten_epochs(t)[["midpoint-26", "leapfrog-26"]].min() - ten_epochs(t)["resnet-32"],
                  Rule.AT_LEAST, 0, 1, "twice the standard error of a difference on 10,000 images; one seed", " %"),
        ),
        ("A14", "A15", "A16"),
    ),
    Claim(
        "C-few", "abstract", "The architectures yield superior results when trained with fewer training data.",
        (
            Check("figC3", "mean accuracy of Hamiltonian less that of ResNet, shares up to 20 %, least",
                  lambda t: accuracy_lead(t[t["share_percent"] <= 20], "resnet").min(),
                  Rule.AT_LEAST, 0, 1, "about the standard error of a mean over three seeds", " %"),
            Check("figC3", "the same against ResNet trained three times as long, as a Hamiltonian step takes",
                  lambda t: accuracy_lead(t[t["share_percent"] <= 20], "resnet-longer").min(),
                  Rule.AT_LEAST, 0, 1, "about the standard error of a mean over three seeds", " %"),
        ),
        ("A14", "A16"), dataset="CIFAR-10",
    ),
)  # fmt: skip
