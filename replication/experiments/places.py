"""Where the checkout's files lie."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parent.parent.parent
CONF, FIGURES, WEIGHTS = ROOT / "conf", ROOT / "figures", ROOT / "weights"

OmegaConf.register_new_resolver("checkout", lambda place: str(ROOT / place), replace=True)
