"""What paper D claims, as far as its abstract, captions and recalled facts go."""

from __future__ import annotations

from replication.experiments.studies.claims import Check, Claim, Rule
from replication.experiments.studies.measures import constant_ratio, crossing, percent_at
from replication.experiments.studies.papers.reasons import RECOVERED

CLAIMS = (
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
)  # fmt: skip
