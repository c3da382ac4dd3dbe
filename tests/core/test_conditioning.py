"""The layer against torch's own embedding, torch.distributions, autograd and scikit-learn."""

import numpy as np
import ot
import pytest
import torch
from scipy.stats import kstest
from sklearn import mixture
from torch.distributions import Normal, kl_divergence
from torch.nn.utils import parametrize, prune

from gmmdiff.core.conditioning import GaussianMixtureConditioning as Layer
from gmmdiff.core.streams import stream

FEATURES, DIM = [2, 3, 4], 6
INDEX = torch.tensor([[0, 2, 3], [1, 0, 0], [1, 1, 2]])


def features(learned=False, scale=0.3):
    return Layer.for_features(FEATURES, DIM, scale, learned, stream(0, "means"))


def draw():
    return stream(0, "draw")


@pytest.mark.parametrize("learned", [False, True])
def test_means_are_those_of_one_embedding_an_attribute(learned):
    """Against ``torch.nn.Embedding``, a table of its own for every attribute."""
    layer = features(learned)
    tables = map(torch.nn.Embedding.from_pretrained, layer.means.detach().split(FEATURES))
    columns = [table(column) for table, column in zip(tables, INDEX.T, strict=True)]
    expected = torch.stack(columns, 1)
    for form in (INDEX, INDEX.tolist(), INDEX.numpy(), INDEX.byte()):
        assert torch.equal(layer(form, sample=False), expected)
    assert torch.equal(features(scale=0.0)(INDEX), expected)  # a scale of 0 is a point


def test_means_start_as_those_of_an_embedding(generator):
    layers = Layer.for_features([200, 200], 40), Layer.for_classes(100, 40, 4)
    for layer in layers:
        assert kstest(layer.means.flatten(), "norm").pvalue > 1e-3 and (layer.scales == 0.1).all()
    one, same = (Layer.for_classes(3, 2, 1, generator=stream(0, "means")) for _ in range(2))
    assert torch.equal(one.means, same.means)


@pytest.mark.parametrize("learned", [False, True])
def test_draws_have_their_components_law(learned, generator):
    means = torch.tensor([[0.0, 5.0], [-3.0, 1.0]])
    scales = torch.tensor([[0.1, 2.0], [1.0, 0.5]])
    layer = Layer(means, scales, learned)
    drawn = layer(torch.tensor([[1, 0]] * 20_000), generator=generator).detach()
    assert drawn.shape == (20_000, 2, 2)
    room = 5 * scales.flip(0) / 20_000**0.5
    assert ((drawn.mean(0) - means.flip(0)).abs() < room).all()
    torch.testing.assert_close(drawn.std(0), scales.flip(0), rtol=0.03, atol=0)
    # Tokens are drawn independently, and so are coordinates.
    correlation = torch.corrcoef(drawn.flatten(1).T) - torch.eye(4)
    assert correlation.abs().max() < 0.04


def test_gradients_reach_means_scales_and_the_null_condition():
    layer = features(learned=True).double()
    index = torch.cat([INDEX, torch.tensor([[-1, 0, -1]])])
    names, values = zip(*layer.named_parameters(), strict=True)
    assert set(names) == {"means", "log_scales", "null"}

    def drawn(*values):
        given = dict(zip(names, values, strict=True))
        return torch.func.functional_call(layer, given, (index,), {"generator": draw()})

    values = tuple(value.detach().clone().requires_grad_() for value in values)
    assert torch.autograd.gradcheck(drawn, values)
    for gradient in torch.autograd.grad((drawn(*values) - 1).square().sum(), values):
        assert gradient.abs().max() > 0


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
    drawn = layer(torch.tensor([[0, 2, 3]]), generator=draw())[0]
    torch.testing.assert_close(layer.soft(torch.eye(9)[[0, 4, 8]], generator=draw()), drawn)
    parametrize.register_parametrization(fixed := features(), "fixed_scales", Twice())
    assert torch.equal(fixed.scales, 2 * features().scales)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer(INDEX)
    assert not layer.parametrizations.log_scales[0].autocast  # CUDA's would widen exp


def test_a_generator_fixes_the_draws_of_a_compiled_layer_too():
    layer = features(learned=True)
    before = torch.random.get_rng_state()
    apart = torch.compile(layer, backend="aot_eager")  # the draw is left out of its graph
    draws = [call(INDEX, generator=draw()) for call in (layer, apart, layer)]
    layer.drop(INDEX, 0.5, draw())
    assert torch.equal(before, torch.random.get_rng_state()) and torch.equal(draws[0], draws[2])
    torch.testing.assert_close(draws[0], draws[1])
    whole = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert not torch.equal(whole(INDEX), whole(INDEX))
    # Values are not looked at there, but no other attribute's component is given out.
    with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
        whole(torch.tensor([[2, 0, 0]] * 3), sample=False)


def test_classes_make_as_many_tokens_and_no_two_alike(generator):
    layer = Layer.for_classes(5, DIM, 3, 0.1, generator=generator)
    tokens = layer(torch.tensor([4, 0, 4]), sample=False)
    assert tokens.shape == (3, 3, DIM) and torch.equal(tokens[0], tokens[2])
    assert len(tokens[:2].flatten(0, 1).unique(dim=0)) == 6
    drawn = layer(torch.tensor([4, 4]), generator=generator)
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(layer([-1, -1]), torch.zeros(2, 3, DIM))


def test_null_conditions():
    layer = features(learned=True)
    with torch.no_grad():
        layer.null.copy_(torch.arange(DIM))
    drawn = layer(torch.tensor([[0, -1, 1], [-1] * 3]), generator=draw())
    assert torch.equal(drawn[0, 1], layer.null) and (drawn[1] == layer.null).all()
    assert torch.equal(drawn[0, 0], layer(INDEX, generator=draw())[0, 0])


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
    means, scales = torch.rand(2, 4, 2, 3, generator=generator)
    layer = Layer(means, scales)
    ends = layer.soft(torch.eye(4), generator=draw())
    torch.testing.assert_close(ends, layer(torch.arange(4), generator=draw()))
    assert torch.equal(layer.soft(torch.zeros(1, 4)), torch.zeros(1, 2, 3))


def test_soft_is_the_wasserstein_barycentre():
    """No Gaussian nearby has a smaller weighted sum of squared distances, in POT's closed form."""
    means, scales = np.array([[0.0, 1.0], [4.0, -2.0]]), np.array([[0.5, 2.0], [1.5, 0.1]])
    weights = np.array([0.3, 0.7])
    layer = Layer(means, scales)

    def cost(mean, scale):
        distance = ot.gaussian.bures_wasserstein_distance
        return sum(
            w * distance(mean, m, np.diag(scale**2), np.diag(s**2)) ** 2
            for w, m, s in zip(weights, means, scales, strict=True)
        )

    drawn = layer.soft(np.tile(weights, (100_000, 1)), generator=draw())
    mean, scale = layer.soft(weights, sample=False).numpy(), weights @ scales
    np.testing.assert_allclose(drawn.std(0).numpy(), scale, rtol=0.02)
    for shift in (-0.2, 0.2):
        assert cost(mean + shift, scale) > cost(mean, scale) + 0.01
        assert cost(mean, scale * (1 + shift)) > cost(mean, scale) + 0.01


@pytest.mark.parametrize("kind", ["diag", "spherical"])
def test_components_of_scikit_learns_mixture(kind, generator):
    x = torch.randn(300, 4, generator=generator, dtype=torch.float64).numpy()
    x[:100] += 3
    model = mixture.GaussianMixture(3, covariance_type=kind, random_state=0).fit(x)
    layer = Layer.from_sklearn(model, learned=True)
    found = Normal(layer.means.detach(), layer.scales.detach())
    variances = np.broadcast_to(model.covariances_.reshape(3, -1), (3, 4)).copy()
    expected = Normal(torch.as_tensor(model.means_), torch.as_tensor(variances).sqrt())
    assert float(kl_divergence(found, expected).abs().max()) < 1e-12
    soft = layer.soft(model.predict_proba(x), sample=False).detach().numpy()
    np.testing.assert_allclose(soft, model.predict_proba(x) @ model.means_, atol=1e-12)
