"""The mixture against torch.distributions, autograd and its own samples."""

import numpy as np
import pytest
import torch
from sklearn import mixture as sklearn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from gmmdiff.core.mixtures import GaussianMixture


def reference(mixture):
    return MixtureSameFamily(
        Categorical(mixture.weights), Independent(Normal(mixture.means, mixture.scales), 1)
    )


def test_density_is_that_of_torch_distributions(mixture, generator):
    x = 2 * torch.randn(50, 3, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(
        mixture.log_prob(x), reference(mixture).log_prob(x), rtol=1e-12, atol=1e-12
    )


def test_score_is_the_gradient_of_the_log_density(mixture, generator):
    x = (2 * torch.randn(50, 3, generator=generator, dtype=torch.float64)).requires_grad_()
    (gradient,) = torch.autograd.grad(reference(mixture).log_prob(x).sum(), x)
    torch.testing.assert_close(mixture.score(x.detach()), gradient, rtol=1e-10, atol=1e-10)


def test_blocks_change_no_density(mixture, generator, monkeypatch):
    x = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    whole = mixture.log_prob(x)
    monkeypatch.setattr("gmmdiff.core.mixtures.BLOCK", 13)
    torch.testing.assert_close(mixture.log_prob(x), whole, rtol=0, atol=0)
    torch.testing.assert_close(mixture.log_prob(x[1, 2]), whole[1, 2])


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


def test_posterior_mean_is_tweedies(mixture, generator):
    """E[x_0 | x_t] = (x_t + sigma^2 score(x_t)) / alpha, with the score taken by autograd."""
    alpha, sigma = 0.6, 0.8
    x = torch.randn(50, 3, generator=generator, dtype=torch.float64).requires_grad_()
    (score,) = torch.autograd.grad(reference(mixture.diffuse(alpha, sigma)).log_prob(x).sum(), x)
    expected = (x.detach() + sigma**2 * score) / alpha
    torch.testing.assert_close(
        mixture.posterior_mean(x.detach(), alpha, sigma), expected, rtol=1e-9, atol=1e-9
    )


QUANTITIES = ("log_prob", "score", "responsibilities", "posterior_mean")


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_weight_of_0_leaves_every_gradient_finite(quantity, dtype, generator):
    """Of the density those of torch.distributions; of all those of the mixture without it."""
    logits = torch.tensor([0.3, -2000.0, -0.4], dtype=dtype, requires_grad=True)
    means, x = torch.randn(2, 3, 2, generator=generator, dtype=dtype)
    given = logits, means.requires_grad_(), x.requires_grad_()

    def gradients(kept, of):
        law = GaussianMixture(logits[kept].softmax(0), means[kept], torch.ones_like(means[kept]))
        return torch.autograd.grad(of(law).square().sum(), given)

    def value(law):
        rates = (0.8, 0.6) if quantity == "posterior_mean" else ()
        return getattr(law, quantity)(x, *rates)

    found = gradients([0, 1, 2], value)
    assert all(gradient.isfinite().all() for gradient in found)
    for gradient, expected in zip(found, gradients([0, 2], value), strict=True):
        torch.testing.assert_close(gradient, expected)
    if quantity == "log_prob":
        by_torch = gradients([0, 1, 2], lambda law: reference(law).log_prob(x))
        for gradient, expected in zip(found, by_torch, strict=True):
            torch.testing.assert_close(gradient, expected)
    weights = torch.tensor([0.4, 0.0, 0.6], dtype=dtype, requires_grad=True)
    law = GaussianMixture(weights, means, torch.ones_like(means))
    (gradient,) = torch.autograd.grad(value(law).sum(), weights)
    assert gradient.isfinite().all()


@pytest.fixture(params=["diag", "spherical"])
def fitted(request, generator):
    """Four components of unlike sizes in R^3, fitted by scikit-learn, and its data."""
    x = torch.randn(400, 3, generator=generator, dtype=torch.float64).numpy()
    x[:100] += 4
    x[100:200] *= [0.1, 1.0, 3.0]
    return sklearn.GaussianMixture(4, covariance_type=request.param, random_state=0).fit(x), x


def test_density_and_score_are_scikit_learns(fitted):
    """The score by central differences of scikit-learn's own density."""
    model, x = fitted
    law = GaussianMixture.from_sklearn(model)
    np.testing.assert_allclose(law.log_prob(x), model.score_samples(x), rtol=0, atol=1e-6)
    shares = law.responsibilities(x)
    np.testing.assert_allclose(shares, model.predict_proba(x), rtol=0, atol=1e-6)
    step, score = 1e-5, law.score(x).numpy()
    for d in range(3):
        shift = step * np.eye(3)[d]
        slope = (model.score_samples(x + shift) - model.score_samples(x - shift)) / (2 * step)
        np.testing.assert_allclose(score[:, d], slope, rtol=1e-6, atol=1e-6)


def test_there_and_back(mixture, fitted, generator):
    x = 2 * torch.randn(50, 3, generator=generator, dtype=torch.float64)
    model = mixture.to_sklearn()
    np.testing.assert_allclose(model.score_samples(x.numpy()), reference(mixture).log_prob(x))
    np.testing.assert_allclose(model.predict_proba(x.numpy()), mixture.responsibilities(x))
    again = GaussianMixture.from_sklearn(model)
    torch.testing.assert_close(again.log_prob(x), mixture.log_prob(x), rtol=1e-12, atol=1e-12)
    other, _ = fitted
    back = GaussianMixture.from_sklearn(other).to_sklearn()
    np.testing.assert_allclose(back.score_samples(x.numpy()), other.score_samples(x.numpy()))
    assert back.bic(x.numpy()) > 0 and back.sample(5)[0].shape == (5, 3)
