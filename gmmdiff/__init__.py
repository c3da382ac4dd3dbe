"""Gaussian mixture conditioning and negative Gaussian mixture gradients for diffusion models.

A reproduction of arXiv 2401.11261 on data whose geometry is known exactly.  The formulas that the
paper's abstracts leave open are our reconstruction; each module says which.

The public names load their modules when they are asked for: ``gmmdiff.core`` is the mathematics,
``gmmdiff.worlds`` the data.  Type checkers read them in ``__init__.pyi``.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "core.conditioning": "GaussianMixtureConditioning",
    "core.costs": "COSTS Cost",
    "core.diffusion": "CosineSchedule LinearBetaSchedule adams_bashforth_moulton ancestral ddim "
    "diffuse dpmpp_2m velocity",
    "core.distances": "divergences_from_histograms divergences_from_samples energy_distance "
    "transport_plan wasserstein1",
    "core.losses": "NGMGLoss NGMGMulticlassLoss NGMGWithLogitsLoss ngmg_loss",
    "core.mixtures": "GaussianMixture",
    "core.ngmg": "NGMG",
    "core.streams": "numpy_stream stream",
    "engine.arms": "Conditioning",
    "engine.denoiser": "load",
    "engine.joint.batched_costs": "Costs",
    "experiments.theory.helix": "Helix",
    "experiments.theory.parallel_lines": "LineCosts ParallelLine",
    "worlds.arcs": "Arcs",
    "worlds.celeba": "CelebA",
    "worlds.digits": "Digits",
    "worlds.faces": "Faces",
    "worlds.world": "Copies World find_defects",
}
_HOME = {name: f"gmmdiff.{home}" for home, names in _MODULES.items() for name in names.split()}
__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # half of the package's import time

        return version("gmmdiff")
    if name not in _HOME:
        raise AttributeError(f"module 'gmmdiff' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
