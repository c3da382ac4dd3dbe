"""What is counted and compared: against torch's own counter, and on contestants of known speed."""

import time

import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gmmdiff.joint import ClassifierProgram, JointProgram
from gmmdiff.networks import StackedMLP
from gmmdiff.performance import beside, engine, operations, plain_loop, products, program_operations, race, ratios
from gmmdiff.training import Program, Run, run_table
from tests.test_joint import table as joint_table
from tests.test_training import SMALL, plain

PROGRAMS = (Program, ClassifierProgram, JointProgram)


def runs_of(program, count=3, steps=50):
    rows = run_table(["class"], [0.1], [50], [1e-3], [steps], count) if program is Program else joint_table(steps=steps)
    return [Run(row, SMALL) for row in rows.itertuples(index=False)][:count]


def counted(work):
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


@pytest.mark.parametrize("to_input", [False, True])
def test_operations_are_those_torch_counts_in_torch_nn(to_input, generator):
    sizes = (5, 7, 6, 3)
    model = plain(sizes, torch.randn(StackedMLP.count(sizes), generator=generator))
    x = torch.randn(32, 5, generator=generator, requires_grad=to_input)
    assert counted(lambda: model(x).sum().backward()) == operations(sizes, 32, to_input)


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_operations_are_those_torch_counts_in_a_step(program):
    made = program(runs_of(program), "cpu")
    made.prepare(made.next_draws())
    made.step(0)  # makes room and costs
    with_costs = counted(lambda: made.step(1))
    costs = 0 if program is Program else counted(lambda: made.costs.gradient(made.logits(1), made.labels[1])) - counted(lambda: made.logits(1))
    costs *= 2 if program is ClassifierProgram else 1  # it tells the value too
    assert with_costs - costs == 3 * program_operations(made)


@pytest.mark.parametrize("program", PROGRAMS)
def test_products_are_the_programs_and_no_more(program):
    made = program(runs_of(program), "cpu")
    assert counted(lambda: products(made)(2)) == 2 * 3 * program_operations(made)


def test_the_plain_loop_and_the_engine_run_what_they_are_asked_for():
    runs = runs_of(Program, steps=4)
    assert all(len(run.data[0]) for run in runs)  # made beforehand: its products are not the training's
    expected = 4 * 3 * program_operations(Program(runs, "cpu"))
    assert counted(lambda: plain_loop(runs)(4)) == expected
    assert counted(lambda: engine(lambda: Program(runs, "cpu"))(4)) == expected
    with pytest.raises(ValueError, match="engine: steps of the run table must be 5 as asked for, got 4"):
        engine(lambda: Program(runs, "cpu"))(5)


def test_contestants_side_by_side_all_run():
    asked = []
    beside([asked.append] * 3)(7)
    assert asked == [7, 7, 7]


def test_a_race_finds_who_is_twice_as_fast():
    turns = race({"fast": (lambda n: time.sleep(0.01 * n), 1, 100), "slow": (lambda n: time.sleep(0.01 * n), 2, 100)}, repeats=3)
    assert turns.groupby("contestant").size().to_dict() == {"fast": 3, "slow": 3}
    found = ratios(turns, "fast")
    assert found.loc["fast"].tolist() == [1, 1, 1] and 0.35 < found.loc["slow", "median"] < 0.6


def test_ratios_are_taken_turn_by_turn():
    turns = pd.DataFrame({"turn": [0, 0, 1, 1], "contestant": ["a", "b"] * 2, "rate": [1.0, 2.0, 10.0, 20.0]})
    assert ratios(turns, "a").loc["b"].tolist() == [2, 2, 2]
    with pytest.raises(ValueError, match="to must be one of a, b, got 'c'"):
        ratios(turns, "c")
    with pytest.raises(ValueError, match="repeats must be >= 1, got 0"):
        race({}, 0)
