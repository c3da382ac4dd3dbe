"""Bad input is one line, which names owner and parameter, what is allowed and what was given."""

import math

import numpy as np
import pytest
import torch
from sklearn import mixture as sklearn

from gmmdiff import NGMG, Arcs, CosineSchedule, Digits, Faces, GaussianMixture, LinearBetaSchedule
from gmmdiff.core.conditioning import GaussianMixtureConditioning as Layer
from gmmdiff.core.costs import COSTS
from gmmdiff.core.diffusion import adams_bashforth_moulton, ancestral, split_prediction
from gmmdiff.core.distances import (
    divergences_from_histograms as histograms,
    divergences_from_samples,
    energy_distance,
    wasserstein1,
)
from gmmdiff.core.losses import NGMGLoss, NGMGMulticlassLoss, ngmg_loss
from gmmdiff.core.sample_metrics import authenticity, kid, neighbour_metrics, wasserstein2
from gmmdiff.core.statistics import bootstrap, holm
from gmmdiff.core.streams import numpy_stream, stream
from gmmdiff.engine.arms import Conditioning
from gmmdiff.engine.denoiser import Denoiser, Settings
from gmmdiff.engine.joint.batched_costs import Costs, matched
from gmmdiff.experiments.feature_vs_class.common_metrics import common_metrics
from gmmdiff.worlds.world import Copies, find_defects

ONES, ZERO, NAN = torch.ones(4, 2), torch.zeros(1, 2), torch.full((1, 2), math.nan)
X, Y = torch.zeros(80, 2, 3), torch.zeros(60, 2, 3)
EACH = torch.eye(3, dtype=torch.bool)
NO_SEEDS = True, np.True_, torch.tensor(True), 1.5, -1, math.nan, math.inf, "1", None, [1]
NARROW = np.array([[1e-170]])
TWO, COSINE = torch.eye(2), CosineSchedule()
DATA = np.random.default_rng(0).normal(size=(30, 2))
ARCS, FACES = Arcs(5, stream(0, "arcs")), Faces(2, generator=stream(0, "faces"))
DIGITS = Digits(generator=stream(0, "digits"))
DENOISER = Denoiser(Settings(4, 16, seed=3, condition=8, width=8, hidden=1))
X_T, CODES = torch.zeros(2, 16, 16), torch.zeros(2, 8)
BINARY = r"^Denoiser: attributes must be \(n, 4\) in \{0, 1\}, got "
COPIES = Copies(ARCS, ARCS.points([0, 1], [0.5, 0.5]), [0, 1], stream(0, "copies"))


def arm(granularity="class", s_c=0.1, rows=((0, 0), (0, 1))):
    return Conditioning(granularity, s_c, torch.tensor(rows), stream(0, "arm"))


def layer(learned=False, scale=0.3):
    return Layer.for_features([2, 3, 4], 6, scale, learned, stream(0, "means"))


def fitted(covariance="full", of=sklearn.GaussianMixture):
    return GaussianMixture.from_sklearn(of(n_components=2, covariance_type=covariance).fit(DATA))


def sampled(sampler=ancestral, denoiser=lambda x, t: x, times=(1.0, 0.5, 0.0), **options):
    options = {"generator": stream(0, "bad")} | options
    return sampler(denoiser, torch.zeros(2, 2), times, COSINE, **options)


def density(weights=(1.0,), means=ZERO, scales=ONES[:1]):
    return GaussianMixture(torch.tensor(weights), means, scales)


BAD = [
    # Mixtures
    (lambda: density(scales=ZERO), r"GaussianMixture: scales must be > 0, got \[\[0.0, 0.0"),
    (lambda: density((0.5,)), "the sum of weights must be 1, got 0.5"),
    (lambda: density((2.0, -1.0), ONES[:2], ONES[:2]), "weights must be >= 0"),
    (lambda: density((0.5, 0.5002), TWO, TWO + 1), "the sum of weights must be 1"),
    (lambda: density(means=ONES[:2]), r"means must be \(1, D\), got \(2, 2\)"),
    (lambda: density(scales=torch.ones(1, 3)), r"scales must be \(1, 2\), got \(1, 3\)"),
    (lambda: density().log_prob(X), r"x must be \(..., 2\), got \(80, 2, 3\)"),
    (lambda: fitted("tied"), "covariance_type must be diag or spherical, got tied"),
    (lambda: GaussianMixture.from_sklearn(sklearn.GaussianMixture()), "a fitted sklearn.mixture.G"),
    (lambda: fitted("diag", sklearn.BayesianGaussianMixture), "must be a fitted .* got Bayesian"),
    (lambda: density((0.0, 1.0), ONES[:2], ONES[:2]).to_sklearn(), "weights must be > 0, got"),
    (lambda: GaussianMixture([1.0], [[0.0]], NARROW).to_sklearn(), "and finite, and 1 / variances"),
    # NGMG, costs and losses
    (lambda: NGMG([0.0]), "NGMG: scales must be > 0 and finite, got"),
    (lambda: NGMG([math.inf]), "NGMG: scales must be > 0 and finite, got"),
    (lambda: NGMG([1.0], [0.0]), "NGMG: weights must be > 0 and finite, got"),
    (lambda: NGMG([]), r"NGMG: scales must be \(n,\) with n >= 1, got \(0,\)"),
    (lambda: NGMG([1.0], [1.0, 2.0]), r"NGMG: weights must be \(1,\), got \(2,\)"),
    *(
        (lambda ends=ends: NGMG.scale_mixture(*ends, 4), "s_min, s_max must be 0 < s_min < s_max")
        for ends in ((1.0, 0.5), (1.0, 1.0), (0.0, 1.0), (1.0, math.inf))
    ),
    (lambda: NGMG.scale_mixture(0.1, 0.5, 1), "n_scales must be a whole number >= 2, got 1"),
    (lambda: NGMG([1.0]).cost(ONES, torch.zeros(3, 4)), r"y must be \(n, 2\) with n >= 2"),
    (lambda: NGMG([1.0]).cost(ZERO, ONES), r"NGMG.cost: x must be \(n, D\) with n >= 2, got"),
    (lambda: NGMG([1.0]).mean_potential(ZERO), r"x must be \(..., n, D\) with n >= 2, got \(1, 2"),
    (lambda: COSTS["BCE"].value(ONES, ONES[:3]), r"labels must be \(4, 2\), got \(3, 2\)"),
    (lambda: COSTS["BCE"].value(ONES, ONES / 2), r"labels must be 0 or 1, got \[\[0.5"),
    (lambda: COSTS["BCE"].value(ONES, ONES, "odds"), "kind must be one of logits, probabilities"),
    (lambda: COSTS["BCE"].gradient(ONES + 1, ONES, "probabilities"), r"must be in \[0, 1\], got"),
    (lambda: COSTS["BCE"].value(-ONES, ONES, "probabilities"), r"must be in \[0, 1\], got"),
    (lambda: ngmg_loss(ONES, ZERO, [1.0]), r"NGMGLoss: target must be \(4, 2\), got \(1, 2\)"),
    (lambda: NGMGMulticlassLoss([1.0])(X[:, :1], [0]), r"\(n, K, ...\) with K >= 2, got \(80, 1"),
    (lambda: NGMGMulticlassLoss([1.0])(ONES, ONES), r"target must be \(4,\), got \(4, 2\)"),
    (lambda: NGMGMulticlassLoss([1.0])(ONES, [0, 1, 2, 0.5]), r"target must be in 0 .. 1, got \["),
    (lambda: NGMGMulticlassLoss([1.0])(-ONES / 0, [0] * 4), "input must be finite, got 8 NaN or"),
    (lambda: ngmg_loss(ONES, ONES, [1.0], activation="relu"), "one of None, sigmoid, softmax, got"),
    (lambda: NGMGLoss([1.0], reduction="batchmean"), "reduction must be one of none, mean, sum"),
    (lambda: COSTS["BCE"].value(-ONES / 0, ONES), "Cost: logits must be finite, got 8 NaN or inf"),
    (lambda: COSTS["BCE"].gradient(NAN, ZERO), "Cost: logits must be finite, got 2 NaN or inf"),
    (lambda: Costs(["BCE"]).gradient(X / 0, X), "Costs: logits must be finite, got 480 NaN"),
    (lambda: Costs(["BCE"]).gradient(X[:1], X[:1] + 0.5), "labels must be 0 or 1"),
    (lambda: Costs(["BCE"] * 2).gradient(X[:1], X[:1]), r"logits must be \(2, batch, m\)"),
    (lambda: Costs(["BCE"]).value(X[:1], X[:1], "odds"), "kind must be one of logits, prob"),
    (lambda: Costs(["hinge"]), "cost must be one of BCE, Brier, .*, got 'hinge'"),
    (lambda: Costs([]), r"names must be a list of at least one, got \[\]"),
    (lambda: Costs("BCE"), "names must be a list of at least one, got 'BCE'"),
    (lambda: Costs(["BCE"], torch.tensor([-1.0])), "factors must be >= 0, got -1.0"),
    (lambda: Costs(["BCE"], torch.ones(2)), r"factors must be \(1,\), got \(2,\)"),
    (lambda: matched(["MAE"], X[:1] + 1e3, X[:1] + 1), "the signal of every cost must be > 0 at"),
    # The conditioning
    (lambda: layer()([[2, 0, 0]]), r"index must be in 0 .. \[1, 2, 3\], or -1 for none, got"),
    (lambda: Layer(TWO, 0.1)([-2]), "index must be in 0 .. 1, or -1 for none, got"),
    (lambda: layer()([[0, 0]]), r"index must be \(..., 3\), got \(1, 2\)"),
    (lambda: layer()(torch.ones(1, 3)), "index must be of an integer type, got torch.float"),
    (lambda: layer(scale=-0.1), "scales must be >= 0, got values in"),
    (lambda: layer(True, 0.0), "scales must be > 0 to be learned, got values in"),
    (lambda: Layer(ONES, torch.ones(3)), r"scales must be of a shape that broadcasts to \(4, 2\)"),
    (lambda: Layer([1.0, 2.0], 0.1), r"means must be \(K, ..., dim\), K >= 1, got \(2,\)"),
    (lambda: Layer(ONES, 0.1, counts=[1, 1]), "the sum of counts must be 4 as means, got 2"),
    (lambda: Layer(ONES, 0.1, counts=[5, -1]), "counts must be a whole number >= 0, got -1"),
    (lambda: Layer.for_features([2, 0], 4), "values_per_attribute must be a whole number >= 1"),
    (lambda: Layer.for_features([], 4), "at least one number"),
    (lambda: Layer.for_features([2], 0), "dim must be a whole number >= 1, got 0"),
    (lambda: Layer.for_classes(0, 4, 2), "n must be a whole number >= 1, got 0"),
    (lambda: layer().drop([[0, 0, 0]], 1.2), r"probability must be in \[0, 1\], got 1.2"),
    (lambda: layer().drop([[0, 0, 0]], -0.1), r"probability must be in \[0, 1\], got -0.1"),
    (lambda: layer().soft(torch.ones(9)), ">= 0 with sum 1, or all 0"),
    (lambda: Layer(TWO, 0.1).soft([0.5, 0.52]), ">= 0 with sum 1, or all 0"),
    (lambda: Layer(TWO, 0.1).soft([1.5, -0.5]), ">= 0 with sum 1, or all 0"),
    (lambda: arm().sample([True, False], None), r"\(n,\) in 0 .. 1, got \[True, False\]"),
    (lambda: arm().sample([0, -1], None), r"combination must be \(n,\) in 0 .. 1, got \[0, -1\]"),
    (lambda: arm("fine"), "granularity must be one of none, coarse, .*, shared, got 'fine'"),
    (lambda: arm(s_c=-0.1), "s_c must be >= 0, got -0.1"),
    (lambda: arm(rows=[[0, 1]] * 2), r"must be \(C, m\) distinct rows of integers >= 0, m >="),
    (lambda: arm(rows=[[0], [1]]), "distinct rows"),
    # Diffusion
    *(
        (lambda t=t: sampled(times=t), r"times must be at least 2 times in \[0, 1\], strictly f")
        for t in ([0.5, 0.5], [1.1, 0.5], [0.5, -0.1])
    ),
    (lambda: COSINE.alpha(1.1), r"t must be in \[0, 1\], got 1.1"),
    (lambda: COSINE.alpha(-0.1), r"t must be in \[0, 1\], got -0.1"),
    (lambda: sampled(adams_bashforth_moulton, times=[[0.9], [0.5]]), "times must be at least 2"),
    (lambda: sampled(prediction="x"), 'one of "epsilon", "sample", "v_prediction", got \'x\''),
    (lambda: sampled(prediction="epsilon"), "epsilon prediction: alpha must be > 0"),
    (lambda: sampled(generator=None), "generator must be a torch.Generator, got None"),
    (lambda: sampled(denoiser=lambda x, t: x[:, :1]), r"prediction must be \(2, 2\) as x_t, got"),
    (lambda: sampled(adams_bashforth_moulton, order=0), "order must be a whole number >= 1, got 0"),
    (lambda: split_prediction(ONES, ONES, 1.0, 0.0, "sample"), "sample prediction: sigma must be"),
    (lambda: COSINE.even_times(True), "steps must be a whole number >= 1, got True"),
    (lambda: COSINE.even_times(5, start=1.0), "start, end must be 1 > start > end > 0"),
    (lambda: COSINE.even_times(5, end=0.0), "start, end must be 1 > start > end > 0"),
    (lambda: COSINE.even_times(5, 0.5, 0.5), "start, end must be 1 > start > end > 0"),
    (lambda: COSINE.even_times(5, bend=0), "bend must be > 0, got 0"),
    *(
        (lambda ends=ends: LinearBetaSchedule(9, *ends), "must be 0 < beta_start <= beta_end < 1")
        for ends in ((0.5, 0.1), (0.0, 0.1), (0.1, 1.0))
    ),
    # Denoisers to load
    (lambda: DENOISER.sample([[0, 1, 1]], stream(0, "n")), BINARY + r"\[\[0, 1, 1\]\]"),
    (lambda: DENOISER.sample([[0, 1, 1, 2]], stream(0, "n")), BINARY),
    (lambda: DENOISER.sample([0, 1, 1, 0], stream(0, "n")), BINARY),
    (lambda: DENOISER(X_T[:, :8], 0.5, CODES), r"^Denoiser: x_t must be \(n, 16, 16\), got \(2, 8"),
    (lambda: DENOISER(X_T, 0.5, CODES[:1]), r"^Denoiser: condition must be \(2, 8\), got \(1, 8\)"),
    (lambda: DENOISER(X_T, [0.5], CODES), r"^Denoiser: t must be a number or \(2,\), got"),
    # Distances, metrics of samples, statistics
    (lambda: wasserstein1(NAN, ZERO), "wasserstein1: x must be finite, got 2 NaN"),
    (lambda: energy_distance(ZERO, ONES[:, :1]), r"y must be \(n, 2\) with n >= 1, got \(4, 1"),
    (lambda: energy_distance(ZERO[:0], ZERO), r"x must be \(n, D\) with n >= 1, got \(0, 2\)"),
    (lambda: histograms([0.0], [1.0], [0.0]), "edges must be 2 or more rising numbers"),
    (lambda: histograms([0.0], [1.0], [0.0, 0.0]), "edges must be 2 or more rising numbers"),
    (lambda: histograms([], [1.0], [0.0, 1.0]), r"x must be \(n,\) within the edges"),
    (lambda: histograms([-0.1], [1.0], [0.0, 1.0]), r"x must be \(n,\) within the edges"),
    (lambda: histograms([0.0], [1.1], [0.0, 1.0]), r"y must be \(n,\) within the edges"),
    (lambda: divergences_from_samples(TWO, TWO, 0.0, TWO, TWO), "width must be > 0, got 0.0"),
    (lambda: neighbour_metrics(X, Y, k=60), "k must be below 60, the size of"),
    (lambda: authenticity(X, Y[:1]), r"train must be \(n, 6\) with n >= 2"),
    (lambda: kid(X[:1], Y), r"x must be \(n, D\) with n >= 2"),
    (lambda: wasserstein2(X, Y), "y must be as many samples as x, 80, got 60"),
    (lambda: common_metrics(X[:5], Y, Y, stream(0, "n")), "k must be below 5"),
    *(
        (lambda bad=bad: holm(bad), r"holm: p_values must be \(n,\) in \[0, 1\], got")
        for bad in ([0.01, np.nan, 0.04], [0.5, 1.5], [-0.1], [[0.1, 0.2]], [np.inf])
    ),
    (lambda: bootstrap([], None), "strata must be arrays"),
    (lambda: bootstrap([np.ones(1)], None), r"arrays \(n,\) with n >= 2, got \[\(1,\)\]"),
    (lambda: bootstrap([np.ones((2, 2))], None), r"arrays \(n,\) with n >= 2, got \[\(2, 2\)\]"),
    (lambda: bootstrap([np.ones(3)], None, level=0.0), "between 0 and 1, got 0.0"),
    (lambda: bootstrap([np.array([1.0, np.nan])], None), "strata must be finite"),
    (lambda: bootstrap([np.ones(3)], numpy_stream(0, "b"), level=1.0), "between 0 and 1, got 1.0"),
    *(
        (lambda seed=seed: stream(seed, "a"), "stream: seed must be a whole number >= 0, got")
        for seed in NO_SEEDS
    ),
    # Worlds
    (lambda: Arcs(4, stream(0, "a")), "Arcs: dim must be a whole number >= 5, got 4"),
    (lambda: Arcs(8, stream(0, "a"), noise=-1.0), "noise must be >= 0, got -1.0"),
    (lambda: ARCS.with_attribute(4, 0), r"attribute must be in 0..3, got 4"),
    (lambda: ARCS.sample_combinations(0, stream(0, "a")), "n must be a whole number >= 1, got 0"),
    (lambda: ARCS.sample_combinations(5, stream(0, "a"), []), "allowed must be at least one comb"),
    (lambda: Faces(1, generator=stream(0, "a")), "Faces: attributes must be in 2..8, got 1"),
    (lambda: Faces(size=15, generator=stream(0, "a")), "size must be a whole number >= 16, got 15"),
    (lambda: Faces(noise=0.0, generator=stream(0, "a")), "Faces: noise must be > 0, got 0.0"),
    (lambda: Faces(generator=None), "Faces: generator must be a torch.Generator, got None"),
    (lambda: FACES.clean(torch.zeros(2, 16, 16), [0] * 3), r"z must be \(3, 16, 16\), got \(2"),
    (lambda: FACES.judge(torch.zeros(2, 8, 8)), r"Faces.judge: z must be \(n, 16, 16\), got \(2"),
    (lambda: Digits(generator=None), "Digits: generator must be a torch.Generator"),
    (lambda: DIGITS.judge(torch.zeros(2, 8, 8)), r"z must be \(n, 8, 16\), got \(2, 8, 8\)"),
    (lambda: DIGITS.sample([0], stream(0, "a"), "floor"), "one of train, validation, judge, test"),
    (lambda: DIGITS.spacing, r"^Digits: spacing must be of a world of known .* none$"),
    (lambda: COPIES(torch.zeros(60, 5), [0, 1]), r"^Copies: z must be \(2, 5\), got \(60, 5\)$"),
    (lambda: Copies(ARCS, ONES, [0], None), "^Copies: generator must be a torch.Generator, got No"),
    (lambda: find_defects([0, 1], [False], [0, 1], EACH), r"malformed must be \(2,\), got \(1,\)"),
    (lambda: find_defects([0], [False], [3], EACH), "combination must be .* 0 .. 2"),
    (lambda: find_defects([0], [False], [0], EACH[:2]), r"admitted must be \(2, 2\), got \(2, 3\)"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_one_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1


GOOD = [  # on the border
    lambda: GaussianMixture([0.50004, 0.50004], TWO, TWO + 1),
    lambda: GaussianMixture([0.0, 1.0], TWO, TWO + 1),
    lambda: NGMG.scale_mixture(0.1, 0.2, 2),
    lambda: NGMG([1.0]).cost(TWO, TWO),
    lambda: NGMG([1.0]).mean_potential(ZERO, ZERO),
    lambda: NGMGMulticlassLoss([1.0])(TWO, [0, 1]),
    lambda: Layer(TWO, 0.0, counts=[0, 2]),
    lambda: Layer(TWO, 0.1).soft([0.495, 0.5]),
    lambda: Layer.for_features([1], 1),
    lambda: Layer.for_classes(1, 1, 1),
    lambda: COSINE.even_times(1),
    lambda: LinearBetaSchedule(1, 0.1, 0.1),
    lambda: histograms([0.0], [1.0], [0.0, 1.0]),
    lambda: neighbour_metrics(TWO, TWO, k=1),
    lambda: authenticity(TWO, TWO),
    lambda: kid(TWO, TWO),
    lambda: bootstrap([np.array([0.0, 1.0])], numpy_stream(0, "b"), resamples=9),
    lambda: holm([0.0, 1.0]),
    lambda: stream(0, ""),
    lambda: Arcs(5, stream(0, "a"), noise=0.0).sample_combinations(1, stream(0, "b"), [3]),
    lambda: Faces(8, size=16, generator=stream(0, "a")),
]


@pytest.mark.parametrize("call", GOOD, ids=range(len(GOOD)))
def test_the_last_that_is_allowed_is_taken(call):
    call()
