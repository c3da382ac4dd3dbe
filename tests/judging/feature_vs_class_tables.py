"""Tables as the experiment leaves them, with made-up numbers."""

from itertools import product

import numpy as np
import pandas as pd
import torch

from gmmdiff import Arcs, Faces, stream

ARMS = [("class", 0.0), ("class", 0.1), ("feature", 0.0), ("feature", 0.1)]
CONTROLS = [("shared", 0.0), ("scrambled", 0.0), ("none", 0.0), ("class", 0.245)]
TIMES = (1.0, 0.9, 0.75, 0.5, 0.25, 0.0)
LEVELS = {  # metric, group: of class, feature, the other arms, and real samples
    ("defect", "seen"): (0.035, 0.021, 0.03, 0.0005),
    ("defect", "rare"): (0.012, 0.061, 0.07, 0.0005),
    ("defect", "held out"): (0.995, 0.082, 0.4, 0.0005),
    ("wrong", "held out"): (0.99, 0.043, 0.35, 0.0),
    ("copy", "rare"): (0.58, 0.3, 0.4, 0.01),
    ("law", "rare"): (3.1, 1.9, 2.4, 1.0),
}
ALL = {"validation_loss": 0.12, "validation_step": 1800, "long_enough": 1.0, "diverged": 0.0}
SETTINGS = {  # world, regime -> steps
    ("arcs", "dense"): 3000,
    ("faces", "sparse"): 2000,
    ("faces", "dense"): 3000,
    ("digits", "sparse"): 1500,
    ("digits", "dense"): 2500,
}


def table(rows, columns):
    return pd.DataFrame(rows, columns=columns.split())


def runs(regime="sparse", m=6, seeds=5, n_train=1000, arms=(*ARMS, *CONTROLS)):
    """The runs of one setting; without the group "rare" where the regime is dense."""
    rng, rows = np.random.default_rng(m + n_train), []
    measures = {at: row for at, row in LEVELS.items() if regime == "sparse" or at[1] != "rare"}
    for granularity, s_c in [*arms, ("real", 0.0)]:
        column = {"class": 0, "feature": 1, "real": 3}.get(granularity, 2)
        groups = [(group, metric, row[column]) for (metric, group), row in measures.items()]
        groups += [("all", *one) for one in ALL.items() if granularity != "real"]
        for seed, (group, metric, value) in product(range(seeds), groups):
            if metric != "long_enough" and granularity != "real":
                value = value * rng.lognormal(s_c, 0.1)
            value = value if metric in ("law", "validation_step") else min(value, 1)
            of_run = (granularity, s_c, n_train, 0.004, 2000, seed, regime, m)
            rows.append((*of_run, "drawn", group, metric, value))
            if s_c and group != "all":
                rows.append((*of_run, "mean", group, metric, value * 0.9))
    columns = "granularity s_c n_train learning_rate steps seed regime attributes condition group"
    return table(rows, f"{columns} metric value")


def sized():
    """The runs of the map: the fewer images a combination has, the more defects and copies."""
    found = []
    for m, n in product((4, 6, 8), (250, 1000, 4000)):
        own = runs("dense" if n > 25 * 2**m else "sparse", m, 5, n, [ARMS[0], ARMS[2]])
        share = own["group"].isin(("seen", "rare")) & own["metric"].ne("law")
        own.loc[share, "value"] = (own.loc[share, "value"] * (1 + 8 * 2**m / n) / 2).clip(upper=1)
        found.append(own)
    return pd.concat(found, ignore_index=True)


def _loss(step, granularity, s_c):
    best = 1500 if granularity == "class" else 2200
    return (0.13 if granularity == "class" else 0.11) + 0.03 * np.log(step / best) ** 2 + s_c / 20


def story(seeds=5):
    rng, rows = np.random.default_rng(1), []
    for (granularity, s_c), seed in product([*ARMS, ("class", 0.245)], range(seeds)):
        drawn, run = rng.lognormal(0, 0.05), (granularity, s_c, seed)
        for step in np.geomspace(250, 8000, 20).round():
            loss = _loss(step, granularity, s_c) * drawn
            rows.append((*run, step, "all", "validation_loss", loss))
        for step, ((metric, group), row) in product((500, 2000, 8000), LEVELS.items()):
            late = step / 2000 if metric in ("copy", "law") else 2000 / step
            value = row[granularity == "feature"] * drawn * late**0.4
            value = value if metric == "law" else min(value, 1)
            rows.append((*run, step, group, metric, value))
    return table(rows, "granularity s_c seed step group metric value")


def notices(seeds=5):
    rng, rows = np.random.default_rng(2), []
    change = {  # metric -> at the minimum, at the end, of fresh real samples
        "precision": (0.7, 0.85, 0.8),
        "recall": (0.6, 0.72, 0.81),
        "density": (0.7, 1.1, 1.0),
        "coverage": (0.8, 0.9, 0.97),
        "authenticity": (0.7, 0.4, 0.75),
        "KID": (0.02, 0.019, 0.0),
        "W2": (3.1, 2.9, 2.7),
        "energy distance to the training set": (0.02, 0.01, 0.03),
        "energy distance to fresh data": (0.03, 0.06, 0.01),
    }
    for (metric, (minimum, longer, fresh)), seed in product(change.items(), range(seeds)):
        rows.append(("real", 0.0, seed, "fresh", metric, fresh))
        for arm, (when, value) in product(ARMS, (("minimum", minimum), ("end", longer))):
            rows.append((*arm, seed, when, metric, value * rng.lognormal(-arm[1], 0.05)))
    return table(rows, "granularity s_c seed when metric value")


def validation(seeds=5):
    rng, rows = np.random.default_rng(3), []
    every = product(SETTINGS.items(), [*ARMS, *CONTROLS], range(seeds))
    for ((world, regime), steps), arm, seed in every:
        drawn = rng.lognormal(0, 0.05)
        for step in np.linspace(steps / 20, steps, 20).round():
            loss = drawn * (_loss(step, *arm) - 0.02)
            rows.append((world, regime, 6, *arm, 1000, 0.004, steps, seed, step, loss))
    columns = "world regime attributes granularity s_c n_train learning_rate steps seed step loss"
    return table(rows, columns)


def settings():
    """The runs of every world, one of them undertrained."""
    found = [runs(regime).assign(world=world) for world, regime in SETTINGS]
    found[-1].loc[found[-1]["metric"] == "long_enough", "value"] = 0.8
    return pd.concat(found, ignore_index=True)


def samplers(seeds=5):
    rng, rows = np.random.default_rng(4), []
    used = [("DPM-Solver++(2M)", n) for n in (5, 10, 20, 40)] + [("ancestral", 1000)]
    for (sampler, n), arm, seed in product(used, ("class", "feature"), range(seeds)):
        for metric, least in (("defect", 0.01), ("law", 1.1)):
            value = (least + 0.1 / n) * rng.lognormal(0, 0.1)
            rows.append((arm, 0.0, seed, metric, value, sampler, n))
    return table(rows, "granularity s_c seed metric value sampler evaluations")


def faces(m=6):
    return Faces(m, generator=stream(0, "faces"))


def arcs():
    return Arcs(8, stream(0, "arcs"))


def _images(world, combination, name):
    greys = world.sample(torch.tensor(combination), stream(0, name)).flatten(1).numpy().round(3)
    return pd.DataFrame(greys, columns=[f"p{i}" for i in range(greys.shape[1])])


def pictures(copies=4):
    """Every second sample of the class arm is wrong on held-out and a copy on rare combinations."""
    world, found = faces(), []
    groups = {"held out": (25, 37, 51, 8), "rare": (3, 14, 20, 61), "frequent": (40, 60)}
    arms = [*ARMS, *CONTROLS, ("real", 0.0)]
    for (granularity, s_c), (group, combinations) in product(arms, groups.items()):
        asked = np.repeat(combinations, copies)
        sample = np.arange(len(asked)) + 100 * list(groups).index(group)
        odd = (sample % 2 == 1) & (granularity == "class")
        shown = np.where(odd & (group == "held out"), asked ^ 9, asked)
        own = pd.DataFrame({"combination": asked, "sample": sample, "shown": shown})
        own = own.assign(granularity=granularity, s_c=s_c, group=group)
        own["malformed"] = (sample % 5 == 4) & (granularity == "feature")
        own["copy"] = odd & (group == "rare")
        made = {"sample": granularity} | ({"nearest": "training"} if group == "rare" else {})
        for role, name in made.items():
            found.append(pd.concat([own.assign(role=role), _images(world, shown, name)], axis=1))
    return pd.concat(found, ignore_index=True)


def face_strip():
    clean = _images(faces(), [5, 40], "strip")
    strips = [((1 - t) * clean + t * 0.4).assign(t=t, combination=[5, 40]) for t in TIMES]
    return pd.concat(strips, ignore_index=True)


def _in_plane(combination):
    """Points of the arcs in their plane, ``(n, 2)``."""
    z = arcs().sample(combination, stream(0, "arcs")).double()
    return (z @ arcs().frame[:, :2]).numpy()


def arc_pictures(n=24):
    rng, found = np.random.default_rng(5), []
    combination = torch.arange(16).repeat_interleave(n)
    held_out = (combination >= 14).numpy()
    for granularity, s_c in [*ARMS, *CONTROLS]:
        often = (0.5 if granularity == "class" else 0.1) * (0.1 + held_out)
        defect = rng.random(len(combination)) < often
        off = 0.15 * defect[:, None] * rng.normal(size=(len(defect), 2))
        own = pd.DataFrame(_in_plane(combination) + off, columns=["x", "y"])
        own = own.assign(combination=combination, defect=defect, held_out=held_out)
        found.append(own.assign(granularity=granularity, s_c=s_c, seed=0))
    return pd.concat(found, ignore_index=True)


def arc_strip(n=30):
    rng, found = np.random.default_rng(6), []
    combination = torch.arange(16).repeat_interleave(n)
    for t in TIMES:
        noisy = (1 - t) * _in_plane(combination) + t * rng.normal(size=(len(combination), 2))
        found.append(pd.DataFrame(noisy, columns=["x", "y"]).assign(t=t, combination=combination))
    return pd.concat(found, ignore_index=True)
