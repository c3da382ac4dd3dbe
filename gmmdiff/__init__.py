"""Gaussian mixture conditioning and negative Gaussian mixture gradients for diffusion models.

A reproduction of arXiv 2401.11261 on data whose geometry is known exactly.  The formulas that the
paper's abstracts leave open are our reconstruction; each module says which.

The public names below load their modules when they are asked for: ``gmmdiff.core`` is the
mathematics, ``gmmdiff.worlds`` the data.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
_HOMES = {
    "core.conditioning": ("Conditioning", "GaussianMixtureConditioning"),
    "core.costs": ("COSTS", "Cost"),
    "core.diffusion": (
        "CosineSchedule",
        "LinearBetaSchedule",
        "ancestral",
        "ddim",
        "diffuse",
        "dpmpp_2m",
        "velocity",
    ),
    "core.distances": (
        "divergences_from_histograms",
        "divergences_from_samples",
        "energy_distance",
        "transport_plan",
        "wasserstein1",
    ),
    "core.losses": ("NGMGLoss", "NGMGWithLogitsLoss", "ngmg_loss", "ngmg_with_logits"),
    "core.mixtures": ("GaussianMixture",),
    "core.ngmg": ("NGMG",),
    "core.streams": ("numpy_stream", "stream"),
    "study.denoisers.denoiser": ("load",),
    "study.engine.costs": ("Costs",),  # many costs at once, for an ensemble
    "worlds.arcs": ("Arcs",),
    "worlds.defects": ("find_defects",),
    "worlds.digits": ("Digits",),
    "worlds.faces": ("Faces",),
    "worlds.helix": ("Helix",),
    "worlds.lines": ("LineCosts", "ParallelLine"),
    "worlds.world": ("World",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gmmdiff' has no attribute {name!r}")
    return getattr(import_module(f"gmmdiff.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
