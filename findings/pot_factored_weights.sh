#!/bin/sh
# What weights do in POT's ot.solve_sample(method="factored").
#
# Guess, before the run, though the source had been read: a and b, "samples weights" in the
# docstring, are the masses of the points, as with the other methods; x with most mass at the left
# is far from x with most mass at the right.
# Seen, POT 0.9.7.post1: weights change nothing; the value is 0.05 instead of about 47, and the plan
# sends and receives equal masses, whatever was asked for.  Nothing is said.
# Why: solve_sample calls factored_optimal_transport without a and b, though that function takes them
# and, called directly, obeys them.  (Methods that can't weigh, as "bsp", raise an error.)
# And so that nobody reads the value as an estimate of W_2^2: it is the documented sum of the costs to
# and from a middle cloud, which for many middle points is half of W_2^2: 47 for 94 here.
#
# The problem: 30 points about 0 and 30 about 10, the same for both laws; masses 0.95 and 0.05
# against 0.05 and 0.95, so that 0.9 of the mass must go 10 to the right: W_2^2 is about 94.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    pot==0.9.7.post1 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import ot

rng = np.random.default_rng(0)
x = np.concatenate([rng.standard_normal((30, 1)), 10 + rng.standard_normal((30, 1))])
left = np.repeat([0.95, 0.05], 30) / 30
right = left[::-1].copy()
print(f"POT {ot.__version__}, numpy {np.__version__}; equal masses, then masses left and right")
values = {}
for method in (None, "gaussian", "sliced", "1d", "factored"):
    pair = []
    for a, b in ((None, None), (left, right)):
        found = ot.solve_sample(x, x, a, b, method=method, rank=20, random_state=0)
        pair.append(float(np.squeeze(found.value)))
    values[method] = pair
    print(f"method {method or 'exact':9} {pair[0]:9.4f} {pair[1]:9.4f}")
plan = np.asarray(found.plan)  # of the last one: factored, with weights
assert abs(plan[:30].sum() - 0.5) < 1e-6, "the plan has other masses than equal ones"
print(f"factored, mass on the left half: sent {plan[:30].sum():.3f}, received {plan[:, :30].sum():.3f};"
      f" asked for {left[:30].sum():.3f} and {right[:30].sum():.3f}")

*_, log = ot.factored_optimal_transport(x, x, left, right, r=20, log=True)
direct, plan = float(log["costa"] + log["costb"]), np.asarray(log["lazy_plan"][:])
print(f"factored_optimal_transport itself, with the same weights: {direct:.4f}; "
      f"sent {plan[:30].sum():.3f}, received {plan[:, :30].sum():.3f}")

for method in (None, "gaussian", "sliced", "1d"):
    assert values[method][1] > 5 + values[method][0], "the others obey the weights"
# The middle cloud starts at random: hence no equality to the last digit.
assert max(values["factored"]) < 1, "weights matter to factored now"
assert abs(plan[:30].sum() - 0.95) < 1e-6, "called directly, it obeys them"
assert direct > 50 * values["factored"][1], "and they would matter, were they handed on"
assert abs(direct / values[None][1] - 0.5) < 0.1
PYTHON
