#!/bin/sh
# What `scaler=` of POT's ot.solve_sample scales.
#
# Guess, before the run, though the source had been read: ot.solve_sample(real, made, scaler=f) is
# ot.solve_sample(f(real), f(made)), as its docstring ("Function to scale the input data", by
# ot.utils.apply_scaler) and POT's own sliced distances have it; a set is 0 away from its copy.
# Seen, POT 0.9.7.post1: only the first set is scaled, f(real) is compared with `made` as it came.
# A set is 1.38 million away from its own copy, and all-black images come out 65000 times nearer to
# the real ones (exact solver) than fresh images of the very same law.  Nothing is said.
# Why: solve_sample stores the second scaled set under a mistyped name (Xb, for X_b), and never reads
# it again.  apply_scaler itself is right.
#
# The problem: "images" of 64 pixels, each uniform on 0, ..., 255; f divides by 255.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    pot==0.9.7.post1 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import ot

METHODS = {"exact": None, "Gaussian": "gaussian", "sliced": "sliced"}


def by_255(pixels):
    return pixels / 255


def value(first, second, method, **options):
    return float(ot.solve_sample(first, second, method=method, random_state=0, **options).value)


rng = np.random.default_rng(0)
real, fresh = rng.integers(0, 256, (2, 100, 64)).astype(float)
others = {"its own copy": real.copy(), "fresh, same law": fresh, "all black": np.zeros((100, 64))}
print(f"POT {ot.__version__}, numpy {np.__version__}; distance of 100 real images from")
seen, hand, half = {}, {}, {}
for name, other in others.items():
    for told, method in METHODS.items():
        key = name, told
        seen[key] = value(real, other, method, scaler=by_255)
        hand[key] = value(by_255(real), by_255(other), method)
        half[key] = value(by_255(real), other, method)  # only the first set scaled
        print(f"{name:16} {told:9} scaler=f {seen[key]:14.4f}   f on both, by hand {hand[key]:9.4f}"
              f"   f on the first alone {half[key]:14.4f}")
        assert np.isclose(seen[key], half[key]), "scaler= no longer scales the first set alone"

# The same function, asked directly, scales both.
for ours, right in zip(ot.utils.apply_scaler(real, fresh, by_255), (by_255(real), by_255(fresh))):
    assert np.array_equal(ours, right)
debiased = value(real, fresh, None, scaler=by_255, debias=True)
print(f"fresh, same law, debias=True, scaler=f {debiased:.1f},"
      f" by hand {value(by_255(real), by_255(fresh), None, debias=True):.4f}")
for told in METHODS:
    assert abs(hand["its own copy", told]) < 1e-6 < 100 < seen["its own copy", told]
    assert hand["fresh, same law", told] < hand["all black", told], "by hand, the fresh ones win"
    assert seen["fresh, same law", told] > 100 * seen["all black", told], "by scaler=, the black ones"
PYTHON
