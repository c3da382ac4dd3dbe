"""The public names, and where each is at home."""

from gmmdiff.core.conditioning import GaussianMixtureConditioning as GaussianMixtureConditioning
from gmmdiff.core.costs import COSTS as COSTS, Cost as Cost
from gmmdiff.core.diffusion import (
    CosineSchedule as CosineSchedule,
    LinearBetaSchedule as LinearBetaSchedule,
    adams_bashforth_moulton as adams_bashforth_moulton,
    ancestral as ancestral,
    ddim as ddim,
    diffuse as diffuse,
    dpmpp_2m as dpmpp_2m,
    velocity as velocity,
)
from gmmdiff.core.distances import (
    divergences_from_histograms as divergences_from_histograms,
    divergences_from_samples as divergences_from_samples,
    energy_distance as energy_distance,
    transport_plan as transport_plan,
    wasserstein1 as wasserstein1,
)
from gmmdiff.core.losses import (
    NGMGLoss as NGMGLoss,
    NGMGMulticlassLoss as NGMGMulticlassLoss,
    NGMGWithLogitsLoss as NGMGWithLogitsLoss,
    ngmg_loss as ngmg_loss,
)
from gmmdiff.core.mixtures import GaussianMixture as GaussianMixture
from gmmdiff.core.ngmg import NGMG as NGMG
from gmmdiff.core.streams import numpy_stream as numpy_stream, stream as stream
from gmmdiff.engine.arms import Conditioning as Conditioning
from gmmdiff.engine.denoiser import load as load
from gmmdiff.engine.joint.batched_costs import Costs as Costs
from gmmdiff.experiments.theory.helix import Helix as Helix
from gmmdiff.experiments.theory.parallel_lines import (
    LineCosts as LineCosts,
    ParallelLine as ParallelLine,
)
from gmmdiff.worlds.arcs import Arcs as Arcs
from gmmdiff.worlds.celeba import CelebA as CelebA
from gmmdiff.worlds.digits import Digits as Digits
from gmmdiff.worlds.faces import Faces as Faces
from gmmdiff.worlds.world import Copies as Copies, World as World, find_defects as find_defects

__version__: str
