"""Figures that look alike."""

from __future__ import annotations

from typing import Any


def figure(width: float, height: float, panels: int = 1) -> tuple[Any, Any]:
    """A figure without a window, and its axes (an array of them where there are panels)."""
    import matplotlib

    matplotlib.use("Agg")
    # Texts as texts, and ids that do not change from run to run.
    matplotlib.rcParams.update(
        {"svg.fonttype": "none", "svg.hashsalt": "embstore", "axes.grid": True, "grid.alpha": 0.3}
    )
    import matplotlib.pyplot as plt

    made: tuple[Any, Any] = plt.subplots(1, panels, figsize=(width * panels, height))
    return made
