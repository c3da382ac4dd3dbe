#!/bin/sh
# What EMAModel of diffusers averages with use_ema_warmup=False.
#
# Guess, before the run: with use_ema_warmup=False, which is also the default, the decay is `decay`
# at every step, as in torch.optim.swa_utils with get_ema_multi_avg_fn.  After 1000 steps of
# fine-tuning at decay=0.9999, 0.9999^1000 = 90 % of the average are still the weights of the start.
# Seen, diffusers 0.42.1: 0 % are; they are all gone after the *first* step, even with
# min_decay=0.9999.  The decay at step 1000 is 0.991: the average is of the last 100 steps or so.
# decay=0.9999 itself is in force only from step 89 991 on; up to step 1000, any `decay` from 0.992
# up gives the same average, bit for bit.
#
# Why: the flag chooses between two warm-ups and has no off.  False: min(decay, t / (9 + t)) at step
# t > 1, which is TensorFlow's; True: min(decay, 1 - t^(-2/3)).  Both take 0 at step 1.  After about
# step 700 True even has the lower decay.  The docstring ("Whether to use EMA warmup"; decay: "The
# decay factor for the exponential moving average") names only the second.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    torch==2.13.0 diffusers==0.42.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import diffusers
import torch
from diffusers.training_utils import EMAModel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

STEPS = 1000


def start():
    """One weight for each step and one for the start: the average shows how much of each it holds."""
    model = torch.nn.Linear(STEPS + 1, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.zero_()[0, 0] = 1
    return model


def train(model, after):
    for step in range(1, STEPS + 1):
        with torch.no_grad():
            model.weight.zero_()[0, step] = 1
        after(step)


def by_diffusers(**options):
    model, decays = start(), {}
    ema = EMAModel(model.parameters(), **options)

    def after(step):
        ema.step(model.parameters())
        decays[step] = ema.cur_decay_value

    train(model, after)
    return ema.shadow_params[0][0], decays


def by_torch(decay):
    model = start()
    ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
    ema.update_parameters(model)  # its first call copies: the weights of the start
    train(model, lambda step: ema.update_parameters(model))
    return ema.module.weight.detach()[0]


def tell(name, share):
    age = float((share * torch.arange(STEPS, -1, -1)).sum())
    print(f"{name:36} of the start {float(share[0]):.3f}, mean age {age:5.1f} steps")


print(f"diffusers {diffusers.__version__}, torch {torch.__version__}; an average after {STEPS} steps")
torchs = by_torch(0.9999)
tell("torch, 0.9999", torchs)
off, decays = by_diffusers(decay=0.9999, use_ema_warmup=False)
tell("diffusers, 0.9999, no warm-up", off)
tell("diffusers, 0.9999, warm-up", by_diffusers(decay=0.9999, use_ema_warmup=True)[0])
floor = by_diffusers(decay=0.9999, min_decay=0.9999)[0]
tell("diffusers, 0.9999, min_decay=0.9999", floor)
lower = by_diffusers(decay=0.992, use_ema_warmup=False)[0]
tell("diffusers, 0.992, no warm-up", lower)
print("decay by step:", {step: round(decays[step], 4) for step in (1, 2, 10, 100, STEPS)})
ema = EMAModel(start().parameters(), decay=0.9999)
low, high = 2, 1_000_000
while low < high:
    middle = (low + high) // 2
    low, high = (low, middle) if ema.get_decay(middle) >= 0.9999 else (middle + 1, high)
print(f"0.9999 is reached at step {low}")
assert float(torchs[0]) > 0.9 and float(off[0]) == float(floor[0]) == 0, "it starts otherwise now"
assert torch.equal(off, lower) and decays[STEPS] < 0.992 and low > 80_000, "it is constant now"
PYTHON
