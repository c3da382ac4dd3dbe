#!/bin/sh
# What a third-order DPM-Solver++ of diffusers converges like.
#
# Guess, before the run: DPMSolverMultistepScheduler(solver_order=3) has error ~ 1 / steps^3 on a
# smooth problem with times even in log(alpha / sigma): halving the step divides it by 8.
# Seen, diffusers 0.42.1: by about 4, as with solver_order=2; the constant alone is smaller.  Its
# second difference is a divided one, h^2 x_0'' / 2, but is weighed as h^2 x_0'' would be.  The same
# loop with that weight doubled has error ~ 1 / steps^3.
#
# The problem: data from a mixture of two Gaussians in one dimension, whose x_0 prediction is known
# in closed form, and the probability-flow ODE from sigma_max to sigma_min, solved far more finely.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    torch==2.13.0 diffusers==0.42.1 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" - <<'PYTHON'
import diffusers
import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from scipy.stats import norm

CENTRES, WIDTH = np.array([-1.0, 0.7]), 0.4
STEPS = [20, 40, 80, 160]


def x_0(x, alpha, sigma):
    """E[x_0 | x_t = x], exact."""
    variance = alpha**2 * WIDTH**2 + sigma**2
    logits = -((x[:, None] - alpha * CENTRES) ** 2) / (2 * variance)
    weight = np.exp(logits - logits.max(1, keepdims=True))
    weight /= weight.sum(1, keepdims=True)
    means = CENTRES + alpha * WIDTH**2 / variance * (x[:, None] - alpha * CENTRES)
    return (weight * means).sum(1)


def rates(ratio):
    """alpha and sigma of a ratio sigma / alpha."""
    alpha = 1 / np.sqrt(1 + ratio**2)
    return alpha, ratio * alpha


def scheduler(order, steps):
    found = DPMSolverMultistepScheduler(
        prediction_type="sample", solver_order=order, algorithm_type="dpmsolver++",
        use_lu_lambdas=True, final_sigmas_type="sigma_min", lower_order_final=False,
        euler_at_final=False,
    )
    found.set_timesteps(steps)
    # Times exactly even in log(sigma / alpha), one interval less than sigmas.
    ends = np.log(found.sigmas[[0, -1]].double().numpy())
    found.sigmas = torch.from_numpy(np.exp(np.linspace(*ends, steps + 1)))
    return found


def by_diffusers(order, steps, start):
    ours = scheduler(order, steps)
    x = torch.from_numpy(start)
    for i, t in enumerate(ours.timesteps):
        told = x_0(x.numpy(), *rates(float(ours.sigmas[i])))
        x = ours.step(torch.from_numpy(told), t, x).prev_sample
    return x.numpy()


def by_hand(weight, steps, start):
    """Order 3 from the third step on, the second difference times ``weight``."""
    ratios = scheduler(3, steps).sigmas.numpy()
    h, x, seen = np.log(ratios[0] / ratios[1]), start, []
    for now, then in zip(ratios, ratios[1:]):
        (_, sigma), (alpha, ahead) = rates(now), rates(then)
        seen = [*seen, x_0(x, *rates(now))][-3:]
        first = seen[-1] - seen[-2] if len(seen) > 1 else 0 * x
        second = (first - (seen[-2] - seen[-3])) / 2 if len(seen) > 2 else 0 * x
        decay = np.expm1(-h)
        x = ahead / sigma * x - alpha * decay * seen[-1]
        if len(seen) == 2:
            x = x - 0.5 * alpha * decay * first  # the library's own choice at order 2
        if len(seen) == 3:
            x = x + alpha * (decay / h + 1) * (first + second)
            x = x - weight * alpha * ((decay + h) / h**2 - 0.5) * second
    return x


def finely(start, steps=20000):
    """Runge and Kutta's fourth order on d(x / alpha) / d(sigma / alpha)."""
    first, last = scheduler(3, 20).sigmas.numpy()[[0, -1]]
    grid = np.log(np.geomspace(first, last, steps + 1))
    y = start / rates(first)[0]

    def slope(log_ratio, y):
        alpha, sigma = rates(np.exp(log_ratio))
        return y - x_0(alpha * y, alpha, sigma)

    for a, b in zip(grid, grid[1:]):
        k1 = slope(a, y)
        k2 = slope((a + b) / 2, y + (b - a) / 2 * k1)
        k3 = slope((a + b) / 2, y + (b - a) / 2 * k2)
        k4 = slope(b, y + (b - a) * k3)
        y = y + (b - a) / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return rates(last)[0] * y


start = norm.ppf((np.arange(200) + 0.5) / 200)
exact = finely(start)
methods = {
    "diffusers, solver_order=2": lambda n: by_diffusers(2, n, start),
    "diffusers, solver_order=3": lambda n: by_diffusers(3, n, start),
    "by hand, the same weight": lambda n: by_hand(1, n, start),
    "by hand, twice the weight": lambda n: by_hand(2, n, start),
}
print(f"diffusers {diffusers.__version__}; root mean square error by number of steps")
orders = {}
for name, method in methods.items():
    errors = [float(np.sqrt(np.mean((method(n) - exact) ** 2))) for n in STEPS]
    orders[name] = np.log2(errors[-2] / errors[-1])
    told = "  ".join(f"{n}: {error:.2e}" for n, error in zip(STEPS, errors))
    print(f"{name:27} {told}  order {orders[name]:.2f}")
twice = by_diffusers(3, 40, start)
print(f"diffusers and the loop by hand differ by {np.abs(twice - by_hand(1, 40, start)).max():.1e}")
assert abs(orders["diffusers, solver_order=3"] - 2) < 0.3, "it is no second-order method any more"
assert orders["by hand, twice the weight"] > 2.7
assert np.abs(twice - by_hand(1, 40, start)).max() < 1e-3
PYTHON
