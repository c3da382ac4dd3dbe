"""The layer against torch's own embedding, torch.distributions, autograd and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn import mixture
from torch.distributions import Normal, kl_divergence
from torch.nn.utils import parametrize, prune

from gmmdiff.core.conditioning import GaussianMixtureConditioning
from gmmdiff.core.streams import stream

FEATURES, DIM = [2, 3, 4], 6
INDEX = torch.tensor([[0, 2, 3], [1, 0, 0], [1, 1, 2]])


def features(learned=False, scale=0.3):
    return GaussianMixtureConditioning.for_features(
        FEATURES, DIM, scale, learned, stream(0, "means")
    )


@pytest.mark.parametrize("learned", [False, True])
def test_means_are_those_of_one_embedding_an_attribute(learned):
    """Against ``torch.nn.Embedding``, a table of its own for every attribute."""
    layer = features(learned)
    tables = layer.means.detach().split(FEATURES)
    expected = [
        torch.nn.Embedding.from_pretrained(table)(column)
        for table, column in zip(tables, INDEX.T, strict=True)
    ]
    assert torch.equal(layer(INDEX, sample=False), torch.stack(expected, 1))
    for form in (INDEX.tolist(), INDEX.numpy(), INDEX.byte()):
        assert torch.equal(layer(form, sample=False), torch.stack(expected, 1))


@pytest.mark.parametrize("learned", [False, True])
def test_draws_have_their_components_law(learned, generator):
    means = torch.tensor([[0.0, 5.0], [-3.0, 1.0]])
    scales = torch.tensor([[0.1, 2.0], [1.0, 0.5]])
    layer = GaussianMixtureConditioning(means, scales, learned)
    drawn = layer(torch.tensor([[1, 0]] * 20_000), generator=generator).detach()
    assert drawn.shape == (20_000, 2, 2)
    room = 5 * scales.flip(0) / 20_000**0.5
    assert ((drawn.mean(0) - means.flip(0)).abs() < room).all()
    torch.testing.assert_close(drawn.std(0), scales.flip(0), rtol=0.03, atol=0)
    # Tokens are drawn independently, and so are coordinates.
    correlation = torch.corrcoef(drawn.flatten(1).T) - torch.eye(4)
    assert correlation.abs().max() < 0.04


def test_a_scale_of_0_is_a_point():
    layer = features(scale=0.0)
    assert torch.equal(layer(INDEX), layer(INDEX, sample=False))


def test_gradients_reach_means_scales_and_the_null_condition():
    layer = features(learned=True).double()
    index = torch.cat([INDEX, torch.tensor([[-1, 0, -1]])])
    names, values = zip(*layer.named_parameters(), strict=True)
    assert set(names) == {"means", "log_scales", "null"}

    def draw(*values):
        given = dict(zip(names, values, strict=True))
        options = {"generator": stream(0, "draw")}
        return torch.func.functional_call(layer, given, (index,), options)

    values = tuple(value.detach().clone().requires_grad_() for value in values)
    assert torch.autograd.gradcheck(draw, values)
    for gradient in torch.autograd.grad((draw(*values) - 1).square().sum(), values):
        assert gradient.abs().max() > 0


def test_the_gradient_in_the_scales_is_that_of_a_closed_form(generator):
    """d/ds E |m + s eps|^2 = 2 s, by the mean over draws."""
    layer = GaussianMixtureConditioning([[1.0]], 0.7, learned=True)
    loss = layer(torch.zeros(200_000, 1).long(), generator=generator).square().mean()
    (slope,) = torch.autograd.grad(loss, layer.log_scales)
    assert float(slope) == pytest.approx(0.7 * 2 * 0.7, rel=0.02)  # in log s: times s


def test_a_learned_scale_never_turns_negative(generator):
    """Pushed down for two thousand large steps it comes near to 0, and stays a number."""
    layer = features(learned=True)
    optimiser = torch.optim.SGD([layer.log_scales], lr=50.0)
    for _ in range(2000):
        optimiser.zero_grad()
        layer.scales.sum().backward()
        optimiser.step()
        assert bool((layer.scales >= 0).all())
    assert (layer.scales < 1e-3).all() and layer(INDEX, generator=generator).isfinite().all()


class Twice(torch.nn.Module):
    """Says, too, whether it was called inside ``torch.autocast``."""

    def forward(self, x):
        self.autocast = torch.is_autocast_enabled("cpu")
        return 2 * x


def test_parametrized_and_pruned_it_draws_what_its_tensors_say():
    layer = features(learned=True)
    log_scales, means = layer.log_scales.detach().clone(), layer.means.detach().clone()
    parametrize.register_parametrization(layer, "log_scales", Twice())
    prune.random_unstructured(layer, "means", amount=0.5)
    assert torch.equal(layer.scales, (2 * log_scales).exp())
    assert torch.equal(layer.means, means * layer.means_mask) and (layer.means == 0).any()
    one_hot = torch.eye(9)[[0, 4, 8]]
    drawn = layer(torch.tensor([[0, 2, 3]]), generator=stream(0, "draw"))[0]
    torch.testing.assert_close(layer.soft(one_hot, generator=stream(0, "draw")), drawn)
    parametrize.register_parametrization(fixed := features(), "fixed_scales", Twice())
    assert torch.equal(fixed.scales, 2 * features().scales)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer(INDEX)
    assert not layer.parametrizations.log_scales[0].autocast  # CUDA's would widen exp


def test_a_generator_fixes_the_draws():
    layer = features()
    draws = [layer(INDEX, generator=stream(seed, "draw")) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    before = torch.random.get_rng_state()
    layer.drop(INDEX, 0.5, stream(0, "drop"))
    assert torch.equal(before, torch.random.get_rng_state())


def test_compiled_it_is_the_same():
    layer = features(learned=True)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert not torch.equal(compiled(INDEX), compiled(INDEX))
    compiled_apart = torch.compile(layer, backend="aot_eager")
    # A generator is beyond torch's compiler: the draw is left out of the compiled graph.
    draws = [call(INDEX, generator=stream(0, "draw")) for call in (compiled_apart, layer)]
    torch.testing.assert_close(*draws)
    # Values are not looked at there, but no other attribute's component is given out.
    with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
        compiled(torch.tensor([[2, 0, 0]] * 3), sample=False)


def test_classes_make_as_many_tokens_and_no_two_alike(generator):
    layer = GaussianMixtureConditioning.for_classes(5, DIM, 3, 0.1, generator=generator)
    tokens = layer(torch.tensor([4, 0, 4]), sample=False)
    assert tokens.shape == (3, 3, DIM) and torch.equal(tokens[0], tokens[2])
    assert len(tokens[:2].flatten(0, 1).unique(dim=0)) == 6
    drawn = layer(torch.tensor([4, 4]), generator=generator)
    assert not torch.equal(drawn[0], drawn[1])


def test_cross_attention_is_constant_for_one_token_alone(generator):
    """Why ``for_classes`` has tokens: of one, every place of an image reads the same."""
    attention = torch.nn.MultiheadAttention(DIM, 1, batch_first=True)
    places = torch.randn(1, 10, DIM, generator=generator)
    spreads = []
    for tokens in (1, 3):
        layer = GaussianMixtureConditioning.for_classes(5, DIM, tokens, generator=generator)
        condition = layer([2], generator=generator)
        spreads.append(float(attention(places, condition, condition)[0].detach().std(1).max()))
    assert spreads[0] < 1e-6 < 1e-3 < spreads[1]


def test_null_conditions():
    layer = features(learned=True)
    with torch.no_grad():
        layer.null.copy_(torch.arange(DIM))
    index = torch.tensor([[0, layer.NULL, 1], [layer.NULL] * 3])
    drawn = layer(index, generator=stream(0, "draw"))
    assert torch.equal(drawn[0, 1], layer.null) and (drawn[1] == layer.null).all()
    assert torch.equal(drawn[0, 0], layer(INDEX, generator=stream(0, "draw"))[0, 0])
    classes = GaussianMixtureConditioning.for_classes(5, DIM, 3)
    assert torch.equal(classes([-1, -1]), torch.zeros(2, 3, DIM))


@pytest.mark.parametrize("form", ["features", "classes", "weights"])
def test_dropped_are_whole_conditions_with_the_probability_asked_for(form, generator):
    count, layer = 20_000, features()
    index = torch.randint(2, (count, 3), generator=generator)
    index = {"features": index, "classes": index[:, 0], "weights": index * 0.5 + 0.1}[form]
    dropped = layer.drop(index, 0.2, generator).reshape(count, -1)
    null = (dropped == (0 if form == "weights" else layer.NULL)).all(1)
    assert float(null.double().mean()) == pytest.approx(0.2, abs=5 * (0.16 / count) ** 0.5)
    assert torch.equal(dropped[~null], index.reshape(count, -1)[~null])
    assert torch.equal(layer.drop(index, 0.0), index)
    assert layer.drop(index.byte() if form == "features" else index, 1.0).unique().numel() == 1


def test_soft_conditions_between_components(generator):
    layer = GaussianMixtureConditioning(
        torch.randn(4, 2, 3, generator=generator), torch.rand(4, 2, 3, generator=generator)
    )
    ends = layer.soft(torch.eye(4), generator=stream(0, "draw"))
    torch.testing.assert_close(ends, layer(torch.arange(4), generator=stream(0, "draw")))
    assert torch.equal(layer.soft(torch.zeros(1, 4)), torch.zeros(1, 2, 3))


def test_soft_is_the_wasserstein_barycentre():
    """No Gaussian nearby has a smaller weighted sum of squared distances, in POT's closed form."""
    ot = pytest.importorskip("ot")
    means, scales = np.array([[0.0, 1.0], [4.0, -2.0]]), np.array([[0.5, 2.0], [1.5, 0.1]])
    weights = np.array([0.3, 0.7])
    layer = GaussianMixtureConditioning(means, scales)

    def cost(mean, scale):
        distance = ot.gaussian.bures_wasserstein_distance
        return sum(
            w * distance(mean, m, np.diag(scale**2), np.diag(s**2)) ** 2
            for w, m, s in zip(weights, means, scales, strict=True)
        )

    drawn = layer.soft(np.tile(weights, (100_000, 1)), generator=stream(0, "draw"))
    mean, scale = layer.soft(weights, sample=False).numpy(), drawn.std(0).numpy()
    best = cost(mean, weights @ scales)
    np.testing.assert_allclose(scale, weights @ scales, rtol=0.02)
    for shift in (-0.2, 0.2):
        assert cost(mean + shift, weights @ scales) > best + 0.01
        assert cost(mean, weights @ scales * (1 + shift)) > best + 0.01


@pytest.mark.parametrize("kind", ["diag", "spherical"])
def test_components_of_scikit_learns_mixture(kind, generator):
    x = torch.randn(300, 4, generator=generator, dtype=torch.float64).numpy()
    x[:100] += 3
    x[100:200] *= [0.2, 1.0, 2.0, 0.5]
    model = mixture.GaussianMixture(3, covariance_type=kind, random_state=0).fit(x)
    layer = GaussianMixtureConditioning.from_sklearn(model, learned=True)
    found = Normal(layer.means.detach(), layer.scales.detach())
    variances = np.broadcast_to(model.covariances_.reshape(3, -1), (3, 4)).copy()
    expected = Normal(torch.as_tensor(model.means_), torch.as_tensor(variances).sqrt())
    assert float(kl_divergence(found, expected).abs().max()) < 1e-12
    hard = layer(model.predict(x), sample=False)
    torch.testing.assert_close(hard, layer.means[model.predict(x)])
    soft = layer.soft(model.predict_proba(x), sample=False).detach().numpy()
    np.testing.assert_allclose(soft, model.predict_proba(x) @ model.means_, atol=1e-12)
