"""What the field measures of samples: nearest neighbours, KID and W2, on pixels as they are.

Images ``(n, ...)`` are flattened to ``(n, D)``; every value is a float, computed in float64.  All
raise a ValueError on other shapes, NaN or infinity.

Example:
    >>> from gmmdiff.core.sample_metrics import authenticity, kid, neighbour_metrics, wasserstein2
    >>> real = [[0.0], [1.0], [5.0]]  # balls of width 1, 1 and 4
    >>> neighbour_metrics([[0.5], [20.0]], real, k=1)["precision"]
    0.5
    >>> authenticity([[0.1], [7.0]], real)  # 0.1 < 1; 7 - 5 < 5 - 1
    0.0
    >>> kid([[0.0], [0.0]], [[1.0], [1.0]])  # 1 + 2^3 - 2 * 1
    7.0
    >>> wasserstein2([[0.0], [10.0]], [[13.0], [3.0]])
    3.0
"""

from __future__ import annotations

from scipy.optimize import linear_sum_assignment
from torch import Tensor

from gmmdiff.core.checks import require, whole
from gmmdiff.core.distances import pairwise_distances, samples


def neighbour_metrics(x: Tensor, real: Tensor, k: int = 5) -> dict[str, float]:
    """Precision, recall, density and coverage of samples x ``(n, ...)`` against real ``(m, ...)``.

    A law's manifold is the union of balls around its samples, each as wide as the way to the k-th
    nearest other one.  *Precision*: share of x within the manifold of the real ones.  *Recall*:
    share of the real ones within that of x (both Kynkaanniemi et al. 2019, arXiv 1904.06991).
    *Density*: real balls that hold a sample, over k; it may be above 1.  *Coverage*: share of real
    balls that hold any (both Naeem et al. 2020, arXiv 2002.09797).  Balls are open, as in ``prdc``.

    Raises:
        ValueError: unless 1 <= k < n, m.
    """
    owner = "neighbour_metrics"
    x, real = samples(owner, x=x, real=real)
    k, fewest = whole(owner, "k", k, 1), min(len(x), len(real))
    require(k < fewest, owner, "k", f"below {fewest}, the size of the smaller sample", k)
    radii_x, radii = _radii(x, k), _radii(real, k)
    distances = pairwise_distances(x, real)
    within = distances < radii
    return {
        "precision": _mean(within.any(1)),
        "recall": _mean((distances < radii_x[:, None]).any(0)),
        "density": _mean(within.sum(1)) / k,
        "coverage": _mean(within.any(0)),
    }


def authenticity(x: Tensor, train: Tensor) -> float:
    """Share of samples x ``(n, ...)`` that are no copies of train ``(m, ...)``, n, m >= 2.

    A sample is authentic if its nearest training sample is farther from it than from every other
    training sample (Alaa et al. 2022, arXiv 2102.08921).
    """
    x, train = samples("authenticity", 2, x=x, train=train)
    nearest = pairwise_distances(x, train).min(1)
    return _mean(nearest.values > _radii(train, 1)[nearest.indices])


def kid(x: Tensor, real: Tensor) -> float:
    """Kernel inception distance, here on pixels: squared MMD, kernel (x . y / D + 1)^3.

    Of x ``(n, ...)`` and real ``(m, ...)``, n, m >= 2.  The unbiased estimate (Binkowski et al.
    2018, arXiv 1801.01401), so it can be below 0.  It sees the first three moments alone.
    """
    x, real = samples("kid", 2, x=x, real=real)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def among(a: Tensor) -> Tensor:
        own = kernel(a, a)
        return (own.sum() - own.trace()) / (len(a) * (len(a) - 1))

    return float(among(x) + among(real) - 2 * kernel(x, real).mean())


def wasserstein2(x: Tensor, y: Tensor) -> float:
    """W2 between the empirical laws of x and y, both ``(n, ...)``, by exact assignment.

    Among the optimal plans between equally many points there is a permutation (Peyre & Cuturi
    2019, arXiv 1803.00567, proposition 2.1).
    """
    x, y = samples("wasserstein2", x=x, y=y)
    require(len(x) == len(y), "wasserstein2", "y", f"as many samples as x, {len(x)}", len(y))
    costs = pairwise_distances(x, y).square().cpu().numpy()
    return float(costs[linear_sum_assignment(costs)].mean() ** 0.5)


def _radii(x: Tensor, k: int) -> Tensor:
    """Distance ``(n,)`` from each point to the k-th nearest other one; the nearest is itself."""
    return pairwise_distances(x, x).kthvalue(k + 1, dim=1).values


def _mean(values: Tensor) -> float:
    return float(values.double().mean())
