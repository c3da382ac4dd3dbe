"""The mixture against torch.distributions, autograd, scikit-learn and its own samples."""

import numpy as np
import pytest
import torch
from sklearn import mixture as sklearn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from gmmdiff.core.mixtures import GaussianMixture


def reference(law):
    components = Independent(Normal(law.means, law.scales), 1)
    return MixtureSameFamily(Categorical(law.weights), components)


@pytest.fixture
def x(generator):
    return 2 * torch.randn(50, 3, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.0), (0.6, 0.8)])
def test_density_is_torchs_score_its_gradient_and_posterior_mean_tweedies(mixture, x, alpha, sigma):
    """E[x_0 | x_t] = (x_t + sigma^2 score(x_t)) / alpha, with the score taken by autograd."""
    law = mixture.diffuse(alpha, sigma)
    log_prob = reference(law).log_prob(x.requires_grad_())
    (score,) = torch.autograd.grad(log_prob.sum(), x)
    found = law.log_prob(x), law.score(x), mixture.posterior_mean(x, alpha, sigma)
    expected = log_prob, score, (x + sigma**2 * score) / alpha
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_blocks_change_no_density(mixture, x, monkeypatch):
    whole = mixture.log_prob(x)
    monkeypatch.setattr("gmmdiff.core.mixtures.BLOCK", 13)
    assert torch.equal(mixture.log_prob(x.view(2, 25, 3)), whole.view(2, 25))
    torch.testing.assert_close(mixture.log_prob(x[7]), whole[7])


@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.0), (0.6, 0.8), (0.1, 0.995)])
def test_diffused_mixture_is_the_law_of_diffused_samples(mixture, generator, alpha, sigma):
    """Mean, variance and, for the shape, the mean of a bounded function of one coordinate."""
    n, law = 200_000, mixture.diffuse(alpha, sigma)
    noise = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    x = alpha * mixture.sample(n, generator) + sigma * noise
    exact = reference(law)
    assert ((x.mean(0) - exact.mean).abs() < 4 * x.std(0) / n**0.5).all()
    torch.testing.assert_close(x.var(0), exact.variance, rtol=0.02, atol=0)
    z, (means, scales) = torch.cos(2 * x[:, 0]), (law.means[:, 0], law.scales[:, 0])
    expected = (law.weights * torch.cos(2 * means) * torch.exp(-2 * scales**2)).sum()
    assert abs(z.mean() - expected) < 4 * z.std() / n**0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("quantity", ["log_prob", "score", "responsibilities", "posterior_mean"])
def test_a_weight_of_0_leaves_every_gradient_finite(quantity, dtype, generator):
    """It is that of the mixture without it; of the density that of torch.distributions."""
    logits = torch.tensor([0.3, -2000.0, -0.4], dtype=dtype, requires_grad=True)
    means, x = torch.randn(2, 3, 2, generator=generator, dtype=dtype)
    given = logits, means.requires_grad_(), x.requires_grad_()

    def value(law):
        return getattr(law, quantity)(x, *[0.8, 0.6] * (quantity == "posterior_mean"))

    def gradients(kept, of=value):
        law = GaussianMixture(logits[kept].softmax(0), means[kept], torch.ones_like(means[kept]))
        return torch.autograd.grad(of(law).square().sum(), given)

    found = gradients([0, 1, 2])
    torch.testing.assert_close(found, gradients([0, 2]))
    if quantity == "log_prob":
        by_torch = gradients([0, 1, 2], lambda law: reference(law).log_prob(x))
        torch.testing.assert_close(found, by_torch)
    weights = torch.tensor([0.4, 0.0, 0.6], dtype=dtype, requires_grad=True)
    law = GaussianMixture(weights, means, torch.ones_like(means))
    (gradient,) = torch.autograd.grad(value(law).sum(), weights)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("covariance", ["diag", "spherical"])
def test_density_and_score_are_scikit_learns_there_and_back(covariance, generator):
    """The score by central differences of scikit-learn's own density."""
    x = torch.randn(400, 3, generator=generator, dtype=torch.float64).numpy()
    x[:100] += 4
    x[100:200] *= [0.1, 1.0, 3.0]
    fitted = sklearn.GaussianMixture(4, covariance_type=covariance, random_state=0).fit(x)
    law = GaussianMixture.from_sklearn(fitted)
    back, step = law.to_sklearn(), 1e-5
    for model in (fitted, back):
        np.testing.assert_allclose(law.log_prob(x), model.score_samples(x), rtol=0, atol=1e-6)
        shares = law.responsibilities(x)
        np.testing.assert_allclose(shares, model.predict_proba(x), rtol=0, atol=1e-6)
    for d, shift in enumerate(step * np.eye(3)):
        slope = (fitted.score_samples(x + shift) - fitted.score_samples(x - shift)) / (2 * step)
        np.testing.assert_allclose(law.score(x)[:, d], slope, rtol=1e-6, atol=1e-6)
    assert back.bic(x) > 0 and back.sample(5)[0].shape == (5, 3)
    again = GaussianMixture.from_sklearn(back)
    torch.testing.assert_close(again.log_prob(x), law.log_prob(x), rtol=1e-12, atol=1e-12)
