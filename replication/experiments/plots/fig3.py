"""fig3: inverse of the residual unit with a fully-connected layer, invertible percentage against γ."""

from replication.experiments.plots.gamma_sweep import draw_sweep as draw

__all__ = ["draw"]
