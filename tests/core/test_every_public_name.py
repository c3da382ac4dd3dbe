"""Every public name, on every kind of tensor: right to the precision of the type, or one line."""

import copy
import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import gmmdiff
from gmmdiff import (
    COSTS,
    NGMG,
    Arcs,
    Conditioning,
    CosineSchedule,
    Cost,
    Costs,
    Digits,
    Faces,
    GaussianMixture,
    GaussianMixtureConditioning,
    Helix,
    LinearBetaSchedule,
    LineCosts,
    NGMGLoss,
    NGMGMulticlassLoss,
    NGMGWithLogitsLoss,
    ParallelLine,
    stream,
)

ARCS = Arcs(5, stream(0, "arcs"))
COPIES = gmmdiff.Copies(ARCS, ARCS.points(range(4), [0.5] * 4), range(4), stream(0, "copies"))
DIGITS = Digits(generator=stream(0, "digits"))
FACES = Faces(2, generator=stream(0, "faces"))
LAW = GaussianMixture(
    [0.5, 0.5, 0.0], [[0.0] * 5, [1.0] * 5, [2.0] * 5], [[0.5] * 5, [1.0] * 5, [1.0] * 5]
)
TABLE = [[0, 0], [0, 1], [1, 0], [1, 1]]
ARM = Conditioning("feature", 0.1, TABLE, stream(0, "arm"))
LAYER = GaussianMixtureConditioning(torch.eye(5), 0.1)
MIXTURE, TWO = NGMG.scale_mixture(0.1, 10, 6), NGMG([0.7, 2.0], [1.0, 2.0])
TIMES = torch.tensor([0.9, 0.5, 0.2])
OTHER = torch.linspace(-1, 1, 20, dtype=torch.float64).view(4, 5)


def labels(x):
    """Labels of x's form."""
    signs = torch.as_tensor(x) > 0
    return signs.tolist() if isinstance(x, list) else signs


def sampled(sampler, times=TIMES):
    def call(x):
        denoiser = lambda x_t, t: 0.5 * x_t  # noqa: E731 - an exact linear field
        return sampler(denoiser, x, times, CosineSchedule(), "v_prediction", stream(0, "noise"))

    return call


def defects(x):
    malformed = (as_numbers(x)[:, 0] > 0).tolist()
    found = gmmdiff.find_defects([0, 1, 1, 3], malformed, range(4), torch.eye(4))
    return torch.stack(found).double()


def histograms(x):
    values = np.clip(np.asarray(torch.as_tensor(x).detach().double()).ravel(), -100, 100)
    return list(gmmdiff.divergences_from_histograms(values, values[:7], [-100, 0, 100]).values())


def divergences(x):
    found = gmmdiff.divergences_from_samples(x, OTHER, 1.5, OTHER, x)
    return torch.stack(list(found.values()))


def as_numbers(x):
    return torch.as_tensor(x).detach().double()


def image(x, high, wide):
    """The sample in the middle of otherwise grey images, in its own form."""
    whole = torch.full((4, high, wide), 0.5, dtype=torch.float64)
    whole[:, 4, 4:9] = as_numbers(x)
    return like(x, whole)


unit = lambda x: (torch.as_tensor(x).double().abs() % 1).flatten()  # noqa: E731 - times, places


def shares(x):
    """Weights of five components, in float64."""
    return torch.softmax(as_numbers(x), -1)


CALLS = {  # a public name -> what is done with a sample (4, 5)
    "NGMG": [
        MIXTURE.potential,
        MIXTURE.gradient,
        TWO.gradient,
        lambda x: MIXTURE.cost(x, OTHER),
        lambda x: TWO.mean_potential(OTHER, x),
    ],
    "GaussianMixture": [
        LAW.log_prob,
        LAW.log_joint,
        LAW.score,
        LAW.responsibilities,
        lambda x: LAW.posterior_mean(x, 0.8, 0.6),
        LAW.diffuse(0.8, 0.6).score,
    ],
    "COSTS": [lambda x, c=cost: c.value(x, labels(x)) for cost in COSTS.values()],
    "Cost": [lambda x: Cost(bce=0.5, mae=1.0).gradient(x, labels(x))],
    "Costs": [lambda x: Costs(["NGMG s=1"]).gradient(rank_3(x), rank_3(labels(x)))],
    "Conditioning": [lambda x: ARM.sample(unit(x).mul(4).long().tolist(), stream(0, "draw"))],
    "GaussianMixtureConditioning": [
        lambda x: LAYER(unit(x).mul(5).long().view(4, 5), generator=stream(0, "draw")),
        lambda x: LAYER.soft(like(x, shares(x)), generator=stream(0, "draw")),
    ],
    "NGMGLoss": [lambda x: NGMGLoss([0.5, 2.0], reduction="none")(x, OTHER)],
    "NGMGWithLogitsLoss": [lambda x: NGMGWithLogitsLoss([1.0])(x, labels(x))],
    "NGMGMulticlassLoss": [lambda x: NGMGMulticlassLoss([1.0], reduction="none")(x, [0, 4, 2, 1])],
    "ngmg_loss": [
        lambda x: gmmdiff.ngmg_loss(x, OTHER, [1.0], [2.0]),
        lambda x: gmmdiff.ngmg_loss(x, labels(x), [0.5, 2.0], activation="sigmoid"),
    ],
    "CosineSchedule": [lambda x: CosineSchedule().alpha(like(x, unit(x)))],
    "LinearBetaSchedule": [lambda x: LinearBetaSchedule(10).sigma(like(x, unit(x)))],
    "adams_bashforth": [sampled(gmmdiff.adams_bashforth)],
    "ancestral": [sampled(gmmdiff.ancestral, [0.9, 0.0])],
    "ddim": [sampled(gmmdiff.ddim)],
    "dpmpp_2m": [sampled(gmmdiff.dpmpp_2m)],
    "diffuse": [lambda x: gmmdiff.diffuse(x, x, 0.8, 0.6)],
    "velocity": [lambda x: gmmdiff.velocity(x, x, 0.8, 0.6)],
    "divergences_from_samples": [divergences],
    "divergences_from_histograms": [histograms],
    "energy_distance": [lambda x: gmmdiff.energy_distance(x, OTHER)],
    "wasserstein1": [lambda x: gmmdiff.wasserstein1(x, OTHER)],
    "transport_plan": [lambda x: gmmdiff.transport_plan(x, OTHER).sum()],
    "stream": [lambda x: torch.rand(2, generator=stream(len(x), "a"))],
    "numpy_stream": [lambda x: gmmdiff.numpy_stream(np.int32(len(x)), "a").random(2)],
    "Arcs": [
        ARCS.distances,
        lambda x: ARCS.distance(x, [0, 5, 10, 15]),
        lambda x: ARCS.judge(x).distance,
        lambda x: ARCS.points([3] * 20, unit(x)),
    ],
    "find_defects": [defects],
    "Copies": [lambda x: COPIES.nearest(as_numbers(x), [0, 1, 2, 3])[0]],
    "Digits": [lambda x: DIGITS.judge(image(x, 8, 16)).distance],
    "Faces": [
        lambda x: FACES.judge(image(x, 16, 16)).distance,
        lambda x: FACES.distance(image(x, 16, 16), [0, 1, 2, 3]),
        lambda x: FACES.draw([0, 1, 2, 3], as_numbers(x)[:, :3] / 30 + 0.7),
    ],
    "World": [lambda x: ARCS.sample_combinations(len(x), stream(0, "world"), [2, 3])],
    "Helix": [lambda x: Helix(5, stream(0, "helix")).points(like(x, unit(x)))],
    "LineCosts": [lambda x: LineCosts(0.5).js(like(x, unit(x)))[0]],
    "ParallelLine": [lambda x: ParallelLine(0.3, 0.1).sample(np.int64(len(x)), stream(0, "l"))],
}


def like(x, values):
    """The values in x's form."""
    if isinstance(x, list):
        return values.tolist()
    if isinstance(x, np.ndarray):
        return values.numpy().astype(x.dtype if x.dtype.kind == "f" else float)
    return values.to(x.dtype if x.is_floating_point() else torch.float64)


def rank_3(x):
    return [x] if isinstance(x, list) else x[None]


FORMS = {  # how a user may hold a sample, and how many digits that leaves
    "float64": (lambda x: x, 1e-9),
    "float32": (lambda x: x.float(), 1e-4),
    "float16": (lambda x: x.half(), 2e-2),
    "bfloat16": (lambda x: x.bfloat16(), 1e-1),
    "int64": (lambda x: x.round().long(), 1e-4),
    "uint8": (lambda x: x.abs().round().byte(), 1e-4),
    "bool": (lambda x: x > 0, 1e-4),
    "list": (lambda x: x.tolist(), 1e-4),
    "numpy": (lambda x: x.numpy(), 1e-9),
    "numpy float32": (lambda x: x.float().numpy(), 1e-4),
    "transposed": (lambda x: x.T.contiguous().T, 1e-9),
    "expanded": (lambda x: x[:1].expand(4, 5), 1e-9),
    "with a graph": (lambda x: x.clone().requires_grad_(), 1e-9),
}


def close(found, expected, digits):
    found, expected = (torch.as_tensor(value).detach().double() for value in (found, expected))
    assert not found.isnan().any() or expected.isnan().all()
    room = digits * (1 + expected.abs().clamp(max=1e30))
    assert ((found - expected).abs() <= room)[expected.isfinite()].all(), (found, expected)


def test_every_public_name_is_covered():
    others = {"CelebA", "load", "__version__"}  # of files, and no call
    assert set(CALLS) == set(gmmdiff.__all__) - others


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=2, deadline=None, derandomize=True, database=None)
@given(
    values=st.lists(st.floats(-3, 3, width=16), min_size=20, max_size=20), shift=st.integers(0, 2)
)
def test_right_to_the_precision_of_the_type_or_one_line(name, form, values, shift):
    """Against the same call on the same values in float64; also inside ``torch.autocast``."""
    make, digits = FORMS[form]
    x = make(torch.tensor(values, dtype=torch.float64).view(4, 5) + shift)
    plain = torch.as_tensor(x).detach().double()
    for call in CALLS[name]:
        try:
            found = call(x)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                inside = call(x)
        except ValueError as error:
            assert len(str(error).splitlines()) == 1 and " must be " in str(error), str(error)
            continue
        close(found, call(plain), digits)
        close(inside, found, 1e-12)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_no_number_is_one_line_or_no_silent_nan(name, bad):
    x = torch.ones(4, 5, dtype=torch.float64)
    x[1, 2] = bad
    for call in CALLS[name]:
        try:
            found = torch.as_tensor(call(x)).double()
        except ValueError as error:
            assert len(str(error).splitlines()) == 1 and " must be " in str(error), str(error)
            continue
        # What acts element by element may hand a NaN through, where it stood.
        assert found.isnan().sum() <= 4, call


MODULES = {  # every public nn.Module -> how one is made, of a seed, and called, in a precision
    "GaussianMixtureConditioning": (
        lambda seed: GaussianMixtureConditioning.for_features(
            [2] * 9, 6, 0.3, False, stream(seed, "a")
        ),
        lambda module, dtype: module(torch.arange(18).view(2, 9) % 2, sample=False),
    ),
    "GaussianMixtureConditioning, learned": (
        lambda seed: GaussianMixtureConditioning.for_classes(5, 6, 3, 0.3, True, stream(seed, "a")),
        lambda module, dtype: module.soft(torch.eye(5, dtype=dtype), sample=False),
    ),
    "Conditioning": (
        lambda seed: Conditioning("feature", 0.1, TABLE, stream(seed, "a")),
        lambda module, dtype: module(torch.tensor([0, 3, -1]), sample=False),
    ),
    "NGMGLoss": (
        lambda seed: NGMGLoss.scale_mixture(0.1, 10.0, 4),
        lambda module, dtype: module(OTHER.to(dtype), 2 * OTHER.to(dtype)),
    ),
    "NGMGWithLogitsLoss": (
        lambda seed: NGMGWithLogitsLoss([0.5, 2.0]),
        lambda module, dtype: module(OTHER.to(dtype), OTHER > 0),
    ),
    "NGMGMulticlassLoss": (
        lambda seed: NGMGMulticlassLoss([0.5, 2.0]),
        lambda module, dtype: module(OTHER.to(dtype), torch.tensor([0, 4, 2, 1])),
    ),
}


def pickled(module, make):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def loaded(module, make):
    other = make(1)
    other.load_state_dict(module.state_dict())
    return other


def made_on_meta(module, make):
    with torch.device("meta"):
        other = None if isinstance(module, Conditioning) else make(1)  # draws its means
    other = make(1).to("meta") if other is None else other
    other.to_empty(device="cpu").load_state_dict(module.state_dict())
    return other


def averaged(module, make):
    """Over updates with itself, where integer buffers would be averaged too."""
    both = torch.nn.ModuleDict({"own": module, "with a parameter": torch.nn.Linear(1, 1)})
    model = AveragedModel(both, multi_avg_fn=get_ema_multi_avg_fn(0.9999), use_buffers=True)
    for _ in range(50):
        model.update_parameters(both)
    return model.module["own"]


TREATMENTS = {
    "deepcopy": lambda module, make: copy.deepcopy(module),
    "pickle": pickled,
    "state_dict": loaded,
    "meta": made_on_meta,
    "AveragedModel": averaged,
    "compile": lambda module, make: torch.compile(module, fullgraph=True, backend="aot_eager"),
}


def test_every_public_module_is_covered():
    modules = [name for name in gmmdiff._HOME if isinstance(getattr(gmmdiff, name), type)]
    modules = [name for name in modules if issubclass(getattr(gmmdiff, name), torch.nn.Module)]
    assert set(modules) == {name.split(",")[0] for name in MODULES}


@pytest.mark.parametrize("treatment", TREATMENTS)
@pytest.mark.parametrize("name", MODULES)
def test_a_module_stays_what_it_is(name, treatment):
    (make, call), dtype = MODULES[name], torch.get_default_dtype()
    module = make(0).to(dtype)
    other = TREATMENTS[treatment](module, lambda seed: make(seed).to(dtype))
    torch.testing.assert_close(call(other, dtype), call(module, dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", MODULES)
def test_a_module_works_in_its_own_precision(name, dtype):
    make, call = MODULES[name]
    found, exact = call(make(0).to(dtype), dtype), call(make(0).double(), torch.float64)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), exact, rtol=2e-2, atol=2e-2)
