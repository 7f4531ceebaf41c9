"""fig2: inverse of the rectifier linear transform, invertible percentage against γ."""

from replication.experiments.plots.gamma_sweep import draw_sweep as draw

__all__ = ["draw"]
