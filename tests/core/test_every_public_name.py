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
from gmmdiff import COSTS, NGMG, CosineSchedule, GaussianMixture, LinearBetaSchedule, stream

ARCS = gmmdiff.Arcs(5, stream(0, "arcs"))
COPIES = gmmdiff.Copies(ARCS, ARCS.points(range(4), [0.5] * 4), range(4), stream(0, "copies"))
DIGITS = gmmdiff.Digits(generator=stream(0, "digits"))
FACES = gmmdiff.Faces(2, generator=stream(0, "faces"))
LAW = GaussianMixture(
    [0.5, 0.5, 0.0], [[0.0] * 5, [1.0] * 5, [2.0] * 5], [[0.5] * 5, [1.0] * 5, [1.0] * 5]
)
ARM = gmmdiff.Conditioning("feature", 0.1, [[0, 0], [0, 1], [1, 0], [1, 1]], stream(0, "arm"))
LAYER = gmmdiff.GaussianMixtureConditioning(torch.eye(5), 0.1)
MIXTURE, TWO = NGMG.scale_mixture(0.1, 10, 6), NGMG([0.7, 2.0], [1.0, 2.0])
OTHER = torch.linspace(-1, 1, 20, dtype=torch.float64).view(4, 5)


def plain(x):
    return torch.as_tensor(x).detach().double()


def like(x, values):
    """The values in x's form."""
    if isinstance(x, list):
        return values.tolist()
    if isinstance(x, np.ndarray):
        return values.numpy().astype(x.dtype if x.dtype.kind == "f" else float)
    return values.to(x.dtype if x.is_floating_point() else torch.float64)


def labels(x):
    signs = torch.as_tensor(x) > 0
    return signs.tolist() if isinstance(x, list) else signs


def batch(x):
    return [x] if isinstance(x, list) else x[None]


def unit(x):
    """Times or places, 20 in [0, 1)."""
    return (torch.as_tensor(x).double().abs() % 1).flatten()


def image(x, high, wide):
    """The sample in the middle of otherwise grey images."""
    whole = torch.full((4, high, wide), 0.5, dtype=torch.float64)
    whole[:, 4, 4:9] = plain(x)
    return like(x, whole)


def sampled(sampler, times=(0.9, 0.5, 0.2)):
    """Of an exact linear field."""
    return lambda x: sampler(
        lambda x_t, t: 0.5 * x_t, x, times, CosineSchedule(), "v_prediction", stream(0, "noise")
    )


def histograms(x):
    values = plain(x).flatten().clip(-100, 100).numpy()
    return list(gmmdiff.divergences_from_histograms(values, values[:7], [-100, 0, 100]).values())


def divergences(x):
    return torch.stack(list(gmmdiff.divergences_from_samples(x, OTHER, 1.5, OTHER, x).values()))


def defects(x):
    malformed = (plain(x)[:, 0] > 0).tolist()
    found = gmmdiff.find_defects([0, 1, 1, 3], malformed, range(4), torch.eye(4))
    return torch.stack(found).double()


CALLS = {  # a public name -> what is done with a sample (4, 5)
    "NGMG": [MIXTURE.potential, TWO.gradient, lambda x: MIXTURE.cost(x, OTHER)],
    "GaussianMixture": [
        *(LAW.log_prob, LAW.score, LAW.responsibilities),
        lambda x: LAW.posterior_mean(x, 0.8, 0.6),
    ],
    "COSTS": [lambda x, c=cost: c.value(x, labels(x)) for cost in COSTS.values()],
    "Cost": [lambda x: gmmdiff.Cost(bce=0.5, mae=1.0).gradient(x, labels(x))],
    "Costs": [lambda x: gmmdiff.Costs(["NGMG s=1"]).gradient(batch(x), batch(labels(x)))],
    "Conditioning": [lambda x: ARM.sample(unit(x).mul(4).long().tolist(), stream(0, "draw"))],
    "GaussianMixtureConditioning": [
        lambda x: LAYER(unit(x).mul(5).long().view(4, 5), generator=stream(0, "draw")),
        lambda x: LAYER.soft(like(x, plain(x).softmax(-1)), generator=stream(0, "draw")),
    ],
    "NGMGLoss": [lambda x: gmmdiff.NGMGLoss([0.5, 2.0], reduction="none")(x, OTHER)],
    "NGMGWithLogitsLoss": [lambda x: gmmdiff.NGMGWithLogitsLoss([1.0])(x, labels(x))],
    "NGMGMulticlassLoss": [lambda x: gmmdiff.NGMGMulticlassLoss([1.0])(x, [0, 4, 2, 1])],
    "ngmg_loss": [
        lambda x: gmmdiff.ngmg_loss(x, OTHER, [1.0], [2.0]),
        lambda x: gmmdiff.ngmg_loss(x, labels(x), [0.5, 2.0], activation="sigmoid"),
    ],
    "CosineSchedule": [lambda x: CosineSchedule().alpha(like(x, unit(x)))],
    "LinearBetaSchedule": [lambda x: LinearBetaSchedule(10).sigma(like(x, unit(x)))],
    "adams_bashforth_moulton": [sampled(gmmdiff.adams_bashforth_moulton)],
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
    "Copies": [lambda x: COPIES.nearest(plain(x), [0, 1, 2, 3])[0]],
    "Digits": [lambda x: DIGITS.judge(image(x, 8, 16)).distance],
    "Faces": [
        lambda x: FACES.judge(image(x, 16, 16)).distance,
        lambda x: FACES.distance(image(x, 16, 16), [0, 1, 2, 3]),
        lambda x: FACES.draw([0, 1, 2, 3], plain(x)[:, :3] / 30 + 0.7),
    ],
    "World": [lambda x: ARCS.sample_combinations(len(x), stream(0, "world"), [2, 3])],
    "Helix": [lambda x: gmmdiff.Helix(5, stream(0, "helix")).points(like(x, unit(x)))],
    "LineCosts": [lambda x: gmmdiff.LineCosts(0.5).js(like(x, unit(x)))[0]],
    "ParallelLine": [lambda x: gmmdiff.ParallelLine(0.3, 0.1).sample(len(x), stream(0, "l"))],
}
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


def result(call, x):
    """What a call makes of x; None where it refuses it, in one line."""
    try:
        return call(x)
    except ValueError as error:
        assert len(str(error).splitlines()) == 1 and " must be " in str(error), str(error)


def close(found, expected, digits):
    found, expected = plain(found), plain(expected)
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
    for call in CALLS[name]:
        if (found := result(call, x)) is not None:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                close(call(x), found, 1e-12)
            close(found, call(plain(x)), digits)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_no_number_is_one_line_or_no_silent_nan(name, bad):
    """What acts element by element may hand a NaN through, where it stood."""
    x = torch.ones(4, 5, dtype=torch.float64)
    x[1, 2] = bad
    for call in CALLS[name]:
        if (found := result(call, x)) is not None:
            assert plain(found).isnan().sum() <= 4, call


def test_nothing_in_nothing_out():
    empty, law = torch.empty(0, 5), GaussianMixture([1.0], [[0.0] * 5], [[1.0] * 5])
    assert TWO.potential(empty).shape == law.log_prob(empty).shape == (0,)
    assert TWO.gradient(empty).shape == law.score(empty).shape == (0, 5)
    for cost in COSTS.values():
        assert cost.value(empty, empty).shape == cost.gradient(empty, empty).shape == (0, 5)


def test_equal_seeds_give_equal_streams():
    """A column of seeds that a table turned float is the same column."""
    seeds = (1, 1.0, np.int64(1), np.float64(1), torch.tensor(1), torch.tensor(1.0))
    draws = [torch.rand(3, generator=stream(seed, "a")).tolist() for seed in seeds]
    assert draws == [draws[0]] * 6
    assert gmmdiff.numpy_stream(1.0, "a").random() == gmmdiff.numpy_stream(1, "a").random()


@pytest.mark.parametrize("call", [*CALLS["NGMG"][:2], *CALLS["GaussianMixture"], *CALLS["COSTS"]])
def test_functional_transforms_see_the_same(call, generator):
    """``torch.vmap`` row by row, and ``torch.func.grad`` against autograd."""
    x = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(torch.vmap(call)(x), call(x))
    expected = torch.autograd.functional.jacobian(lambda x: call(x).sum(), x)
    torch.testing.assert_close(torch.func.grad(lambda x: call(x).sum())(x), expected)


MODULES = {  # every public nn.Module -> how one is made, of a seed, and called, in a precision
    "GaussianMixtureConditioning": (
        lambda seed: LAYER.for_features([2] * 9, 6, 0.3, False, stream(seed, "a")),
        lambda module, dtype: module(torch.arange(18).view(2, 9) % 2, sample=False),
    ),
    "GaussianMixtureConditioning, learned": (
        lambda seed: LAYER.for_classes(5, 6, 3, 0.3, True, stream(seed, "a")),
        lambda module, dtype: module.soft(torch.eye(5, dtype=dtype), sample=False),
    ),
    "Conditioning": (
        lambda seed: gmmdiff.Conditioning("feature", 0.1, [[0, 0], [0, 1]], stream(seed, "a")),
        lambda module, dtype: module(torch.tensor([0, 1, -1]), sample=False),
    ),
    "NGMGLoss": (
        lambda seed: gmmdiff.NGMGLoss.scale_mixture(0.1, 10.0, 4),
        lambda module, dtype: module(OTHER.to(dtype), 2 * OTHER.to(dtype)),
    ),
    "NGMGWithLogitsLoss": (
        lambda seed: gmmdiff.NGMGWithLogitsLoss([0.5, 2.0]),
        lambda module, dtype: module(OTHER.to(dtype), OTHER > 0),
    ),
    "NGMGMulticlassLoss": (
        lambda seed: gmmdiff.NGMGMulticlassLoss([0.5, 2.0]),
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
    with torch.device("meta"):  # an arm draws its means, so it is put there
        other = make(1) if not isinstance(module, gmmdiff.Conditioning) else None
    other = other or make(1).to("meta")
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
    types = [name for name in gmmdiff._HOME if isinstance(getattr(gmmdiff, name), type)]
    modules = {name for name in types if issubclass(getattr(gmmdiff, name), torch.nn.Module)}
    assert modules == {name.split(",")[0] for name in MODULES}


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


def test_schedules_and_losses_made_on_meta_keep_their_numbers():
    with torch.device("meta"):
        schedule, loss = LinearBetaSchedule(), gmmdiff.NGMGLoss.scale_mixture(0.1, 1.0, 4)
    t, x = torch.tensor([0.3]), torch.ones(3, 2)
    assert torch.equal(schedule.alpha(t), LinearBetaSchedule().alpha(t))
    assert loss(x, 0 * x) == gmmdiff.NGMGLoss.scale_mixture(0.1, 1.0, 4)(x, 0 * x)
