"""What notebook 05 counts and compares: against torch's own counter, other solvers, and contestants
of known speed.
"""

import inspect
import time
from functools import partial
from itertools import product

import diffusers
import pandas as pd
import pytest
import speed
import torch
from scipy.integrate import solve_ivp
from speed import Program, exact_laws, operations, race, rates, ratios
from torch.utils.flop_counter import FlopCounterMode

from gmmdiff.core.diffusion import CosineSchedule
from gmmdiff.core.mixtures import GaussianMixture
from gmmdiff.engine.runs import TrainingSettings, run_table
from gmmdiff.engine.training import Ensemble
from gmmdiff.worlds.arcs import Arcs

SMALL = TrainingSettings(partial(Arcs, 8), width=16, hidden=2, batch=16, ema=0.9)
TABLE = run_table(["class", "feature"], [0.0, 0.1], [50], [0.01], [4], 20, 3)
SMALLEST = {"device": "cpu", "steps": 2, "turns": 1, "rows": [1, 3], "n_train": 50, "batch": 16}
SMALLEST |= {"faces_batch": 16, "evaluations": [4, 12], "samples": [4]}
BETWEEN = "ours: Adams-Bashforth-Moulton", "between"
# Of diffusers' classes: they draw noise, run backwards, are twins or other models', or refuse x_0.
LEFT_OUT = {"DDPM", "DDPMParallel", "EulerAncestralDiscrete", "KDPM2AncestralDiscrete", "LCM"}
LEFT_OUT |= {"DDIMInverse", "DPMSolverMultistepInverse", "DDIMParallel", "KDPM2Discrete", "PNDM"}
LEFT_OUT |= {"CogVideoXDDIM", "CogVideoXDPM", "TCD"}


@pytest.fixture(scope="module")
def programs():
    return speed.programs(dict.fromkeys(("plain", "with a classifier"), SMALL), TABLE)


def test_operations_are_those_of_torch_nn():
    """Of the denoiser alone, forward and backward, a run."""
    made = Ensemble(Program(Ensemble, TABLE, SMALL).blocks(3)[0], "cpu")
    sizes = made.networks[0].sizes
    network, x = speed.perceptron(sizes), torch.randn(SMALL.batch, sizes[0])
    with FlopCounterMode(display=False) as counter:
        network(x).sum().backward()
    assert operations(made) == 3 * counter.get_total_flops()


def test_programs_have_rows_by_seed_in_blocks(programs):
    for program in programs.values():
        blocks = program.blocks(10)
        runs = [run for block in blocks for run in block]
        assert len(runs) == 10 and max(run.row.seed for run in runs) <= 3 + 10 // 4
        program.ensemble.check(program.table.head(8), program.settings)
    assert set(programs["with a classifier"].table["cost"]) == set(speed.COSTS)


@pytest.mark.parametrize("name", ["plain", "with a classifier"])
def test_engine_and_products_take_turns(programs, name):
    turns = speed.training_turns(programs[name], 4, 2, 5, "cpu")
    assert turns["contestant"].tolist() == ["products", "engine"] * 2
    assert (turns["seconds"] > 0).all() and set(turns["rows"]) == {5}
    rates = turns.set_index(["turn", "contestant"])["rate"].unstack()
    ratio = ratios(turns.assign(shape=name), "engine", ["device", "shape"])
    expected = (rates["engine"] / rates["products"]).median()
    assert ratio.set_index("contestant")["median"]["products"] == pytest.approx(expected)


def test_the_stack_and_the_loops_train_the_engines_batches(programs, monkeypatch):
    """From one state, both Adams end at the same weights, run by run."""
    runs, ended, make, optimiser = programs["plain"].blocks(3)[0], [], speed.perceptron, speed.adam

    def begun(*given):
        torch.manual_seed(0)
        return make(*given)

    def kept(weights, *rest):
        weights = list(weights)
        ended.append(weights)
        return optimiser(weights, *rest)

    monkeypatch.setattr(speed, "perceptron", begun)
    monkeypatch.setattr(speed, "adam", kept)
    speed.plain_loop(runs, "cpu")
    speed.stacked_modules(runs, "cpu")
    *alone, together = ended
    for number, weights in enumerate(alone):
        assert not torch.equal(weights[0], begun(runs[0].sizes)[0].weight)
        for one, stack in zip(weights, together, strict=True):
            torch.testing.assert_close(one, stack[number], rtol=1e-4, atol=1e-5)


def test_threads_take_turns_on_one_set_of_rows(programs, monkeypatch):
    seen, before = [], torch.get_num_threads()

    def engine(self, blocks):
        return lambda: seen.append((torch.get_num_threads(), sum(map(len, blocks))))

    monkeypatch.setattr(Program, "engine", engine)
    monkeypatch.setattr(Program, "full", 6)
    torch.set_num_threads(3)
    try:
        turns = speed.thread_turns(programs["plain"], 4, 1)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {(1, 6), (2, 6), (3, 6)} and [*turns["contestant"]] == ["1", "2", "3"]


def test_a_race_finds_who_is_twice_as_fast():
    fast, slow = (lambda: time.sleep(0.02), 2), (lambda: time.sleep(0.02), 1)
    found = ratios(race({"fast": fast, "slow": slow}, 3), "fast").set_index("contestant")["median"]
    assert found["fast"] == pytest.approx(1) and 1.3 < found["slow"] < 3


def test_ratios_are_taken_turn_by_turn():
    rows = [(0, "a", 1.0), (0, "b", 2.0), (1, "a", 10.0), (1, "b", 20.0)]
    found = ratios(pd.DataFrame(rows, columns=["turn", "contestant", "rate"]), "b")
    assert found[["low", "median", "high"]].to_numpy().tolist() == [[2, 2, 2], [1, 1, 1]]


def test_the_exact_laws_are_mixtures_whose_flow_is_known():
    """Predictions as of four components in R^8; the flow against a solver of SciPy."""
    law = exact_laws()["R^8"]
    pairs = [zip(axis.weights, axis.means, strict=True) for axis in law.axes[:2]]
    parts = [(w * v, torch.cat([m, n, torch.zeros(6)])) for (w, m), (v, n) in product(*pairs)]
    weights, means = (torch.stack(part).double() for part in zip(*parts, strict=True))
    scales = torch.full((4, 8), float(law.axes[0].scales[0])).double()
    mixture, x = GaussianMixture(weights, means @ law.frame.T, scales), law.at(3.0)
    assert x.shape == (100, 8)
    torch.testing.assert_close(law.x_0(x, 3.0), mixture.posterior_mean(x, *rates(3.0)))

    def slope(ratio, flat):  # d(x / alpha) / d(sigma / alpha)
        y = torch.tensor(flat).view(100, 8)
        return ((y - law.x_0(rates(ratio)[0] * y, ratio)) / ratio).flatten()

    start = (x / rates(3.0)[0]).flatten()
    end = solve_ivp(slope, (3.0, 0.1), start, "DOP853", rtol=1e-8, atol=1e-8).y[:, -1]
    found = rates(0.1)[0] * torch.tensor(end).view(100, 8)
    torch.testing.assert_close(found, law.at(0.1), rtol=0, atol=1e-6)
    assert law.error(law.at(0.0)) == 0


@pytest.fixture(scope="module")
def executed(run_notebook, tmp_path_factory):
    folder = tmp_path_factory.mktemp("speed")
    names, shown = run_notebook("05_speed.ipynb", folder, **SMALLEST)
    return names, " ".join(shown), folder / "tables"


def test_every_sampler_is_measured_and_the_best_are_ours(executed):
    names, shown, tables = executed
    errors = pd.read_csv(tables / "sampler_errors.csv")
    assert not errors.duplicated(["law", "sampler", "spacing", "at_most"]).any()
    # Three laws, two numbers of evaluations; DDIM has one spacing.
    assert len(errors) == 3 * 2 * (4 * len({**names["DIFFUSERS"], **names["OURS"]}) - 3)
    assert (errors["evaluations"] <= errors["at_most"]).all() and (errors["error"] > 0).all()
    at = errors[errors["at_most"] == 12].set_index(["sampler", "spacing"])
    for law in ("line", "R^8"):
        error = at.loc[at["law"] == law, "error"]
        assert error.idxmin() == BETWEEN
        assert error[BETWEEN] < 0.5 * error["DPM-Solver++(2M)", "even in t"]
        ours = error["ours: dpmpp_2m", "between"]  # the same method at the same times
        assert ours == pytest.approx(error["DPM-Solver++(2M)", "between"], rel=1e-3)
    assert names["winner"] == ", ".join(BETWEEN) and f"({names['winner']})" in shown


def test_the_schedule_of_diffusers_is_ours(executed):
    kept = torch.tensor(1 - executed[0]["BETAS"]).cumprod(0).sqrt()
    times = torch.linspace(0, 0.999, 1001, dtype=torch.float64)[1:]
    torch.testing.assert_close(kept, CosineSchedule().alpha(times))


def test_no_scheduler_that_solves_the_flow_is_missing(executed):
    """Of those that take a schedule and the kind of prediction."""
    known = {"trained_betas", "prediction_type"}
    classes = [getattr(diffusers, name) for name in dir(diffusers) if name.endswith("Scheduler")]
    taken = {one.__name__ for one in classes if known <= inspect.signature(one).parameters.keys()}
    compared = {kind for kind, *_ in executed[0]["DIFFUSERS"].values()}
    assert compared == taken - {f"{name}Scheduler" for name in LEFT_OUT}


def test_no_table_is_missing(executed):
    tables = executed[2]
    written = {path.stem for path in tables.iterdir()}
    assert written == {
        *("training_turns", "training_ratio", "thread_turns", "thread_ratio", "growth_turns"),
        *("growth_ratio", "sampler_errors", "evaluation_ratio"),
    }
    growth = pd.read_csv(tables / "growth_ratio.csv")
    assert set(growth["contestant"]) == {"engine", "loop", "loop, tuned", "torch.func"}
