"""What is counted and compared: against torch's own counter, and on contestants of known speed."""

import json
import math
import time

import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gmmdiff.engine.joint.classifiers import ClassifierEnsemble, JointEnsemble
from gmmdiff.engine.networks import StackedMLP
from gmmdiff.engine.runs import Run, TrainingSettings, run_table
from gmmdiff.engine.training import Ensemble, block_rows, train
from gmmdiff.pipeline.snapshot import run_records
from gmmdiff.study.speed import figures, sampling, training
from gmmdiff.study.speed.findings import (
    evaluation_finding,
    growth_finding,
    sampling_finding,
    stages_finding,
    threads_finding,
    training_finding,
)
from gmmdiff.study.speed.race import beside, race, ratios
from gmmdiff.study.speed.stages import pipeline_share, stage_times
from gmmdiff.study.speed.training import (
    engine,
    ensemble_operations,
    operations,
    plain_loop,
    products,
    stacked_modules,
)
from tests.engine.test_classifiers import table as joint_table
from tests.engine.test_training import SMALL, plain
from tests.small_settings import ARCS

PROGRAMS = (Ensemble, ClassifierEnsemble, JointEnsemble)


def runs_of(ensemble, count=3, steps=50):
    rows = (
        run_table(["class"], [0.1], [50], [1e-3], [steps], count)
        if ensemble is Ensemble
        else joint_table(steps=steps)
    )
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


@pytest.mark.parametrize("ensemble", PROGRAMS)
def test_program_operations_are_those_torch_counts_in_a_step(ensemble):
    made = ensemble(runs_of(ensemble), "cpu")
    made.prepare(made.next_batches())
    made.step(0)  # makes room and costs
    with_costs = counted(lambda: made.step(1))
    costs = (
        0
        if ensemble is Ensemble
        else counted(lambda: made.costs.gradient(made.logits(1), made.labels[1]))
        - counted(lambda: made.logits(1))
    )
    costs *= 2 if ensemble is ClassifierEnsemble else 1  # it tells the value too
    assert with_costs - costs == 3 * ensemble_operations(made)


@pytest.mark.parametrize("ensemble", PROGRAMS)
def test_products_are_the_programs_and_no_more(ensemble):
    made = ensemble(runs_of(ensemble), "cpu")
    assert counted(lambda: products(made)(2)) == 2 * 3 * ensemble_operations(made)


def test_the_plain_loop_and_the_engine_run_what_they_are_asked_for():
    runs = runs_of(Ensemble, steps=4)
    assert all(
        len(run.data[0]) for run in runs
    )  # made beforehand: its products are not the training's
    expected = 4 * 3 * ensemble_operations(Ensemble(runs, "cpu"))
    assert counted(lambda: plain_loop(runs)(4)) == expected
    assert counted(lambda: engine(lambda: Ensemble(runs, "cpu"))(4)) == expected
    assert counted(lambda: stacked_modules(runs)(4)) == expected
    with pytest.raises(
        ValueError, match="engine: steps of the run table must be 5 as asked for, got 4"
    ):
        engine(lambda: Ensemble(runs, "cpu"))(5)


def test_contestants_side_by_side_all_run():
    asked = []
    beside([asked.append] * 3)(7)
    assert asked == [7, 7, 7]


def test_a_race_finds_who_is_twice_as_fast():
    turns = race(
        {
            "fast": (lambda n: time.sleep(0.01 * n), 1, 100),
            "slow": (lambda n: time.sleep(0.01 * n), 2, 100),
        },
        repeats=3,
    )
    assert turns.groupby("contestant").size().to_dict() == {"fast": 3, "slow": 3}
    found = ratios(turns, "fast")
    assert found.loc["fast"].tolist() == [1, 1, 1] and 0.35 < found.loc["slow", "median"] < 0.6


def test_ratios_are_taken_turn_by_turn():
    turns = pd.DataFrame(
        {"turn": [0, 0, 1, 1], "contestant": ["a", "b"] * 2, "rate": [1.0, 2.0, 10.0, 20.0]}
    )
    assert ratios(turns, "a").loc["b"].tolist() == [2, 2, 2]
    with pytest.raises(ValueError, match="to must be one of a, b, got 'c'"):
        ratios(turns, "c")
    with pytest.raises(ValueError, match="repeats must be >= 1, got 0"):
        race({}, 0)


def test_the_ensemble_trains_what_the_loop_trains(monkeypatch):
    """From the same starting weights both Adams end at the same ones, run by run."""
    runs, ended = runs_of(Ensemble, steps=5), []
    starts = [
        plain(run.sizes, 0.1 * torch.ones(StackedMLP.count(run.sizes))).state_dict() for run in runs
    ]
    make, optimiser = training.multilayer_perceptron, training.adam

    def begun(sizes):
        model = make(sizes)
        model.load_state_dict(starts[0])
        return model

    def kept(weights, *rest, **options):
        weights = list(weights)
        ended.append(weights)
        return optimiser(weights, *rest, **options)

    monkeypatch.setattr(training, "multilayer_perceptron", begun)
    monkeypatch.setattr(training, "adam", kept)
    plain_loop(runs)(5)
    stacked_modules(runs)(5)
    *alone, together = ended
    for number, weights in enumerate(alone):
        assert not torch.equal(weights[0], starts[0]["0.weight"])
        for one, stack in zip(weights, together, strict=True):
            torch.testing.assert_close(one, stack[number], rtol=1e-4, atol=1e-5)


def test_an_ensemble_of_two_rates_is_refused():
    rows = run_table(["class"], [0.1], [50], [1e-3, 1e-2], [4], 1)
    with pytest.raises(
        ValueError,
        match=r"stacked_modules: learning rates must be one for all runs, got \[0.001, 0.01\]",
    ):
        stacked_modules([Run(row, SMALL) for row in rows.itertuples(index=False)])


def test_workloads_are_the_programs_with_enough_rows():
    found = training.workloads(SMALL, SMALL, SMALL, 50, 0.1, 0.01, 10, 20, 3)
    assert [workload.ensemble for workload in found.values()] == [
        Ensemble,
        Ensemble,
        JointEnsemble,
        ClassifierEnsemble,
    ]
    for workload in found.values():
        workload.ensemble.check(workload.table, workload.settings)
        first = workload.first(20)
        assert (
            len(first.table) == 20
            and first.table["seed"].is_monotonic_increasing
            and first.table["seed"].iloc[0] == 3
        )
        assert sum(map(len, first.blocks("cpu"))) == 20 and len(first.blocks("cuda")) == 1
        assert max(map(len, first.blocks("cpu"))) <= block_rows(workload.settings)


def test_speedups_and_shares_are_the_engine_over_the_rival():
    turns = pd.DataFrame(
        {
            "turn": [0, 0],
            "contestant": ["engine", "products"],
            "rate": [3.0, 4.0],
            "device": "cpu",
            "shape": "s",
            "rows": 2,
        }
    )
    assert training.shares(turns)["median"].tolist() == [0.75]
    assert training.speedups(turns).set_index("rival")["median"].to_dict() == {
        "engine": 1,
        "products": 0.75,
    }


def test_threads_take_turns_on_the_same_rows_in_blocks_for_all_of_them(monkeypatch):
    seen = []

    def beside(blocks):
        return lambda steps: seen.append((torch.get_num_threads(), len(blocks)))

    monkeypatch.setattr(training, "beside", beside)
    workload = training.workloads(SMALL, SMALL, SMALL, 50, 0.1, 0.01, 4, 3000, 3)["on faces"]
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        turns = training.thread_turns(workload, 4, 1)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert seen == [(1, 3), (2, 4), (3, 3)] * 2  # the first turn is not counted
    assert turns["contestant"].tolist() == ["1", "2", "3"]


def test_threads_are_told_in_order_or_that_there_is_one():
    turns = pd.DataFrame({"turn": 0, "contestant": ["1", "10", "2"], "rate": [2.0, 12.0, 3.0]})
    assert threads_finding(training.thread_speedups(turns)) == (
        "The program on faces goes 1.50 [1.50, 1.50] times as fast on 2 threads as on one, "
        "and 6.00 [6.00, 6.00] times as fast on 10 threads as on one "
        "(median of the turns and quartiles)."
    )
    alone = training.thread_speedups(turns[:1])
    assert threads_finding(alone) == "One thread here: more were not measured."


def test_the_schedule_of_both_sides_is_the_cosine():
    from diffusers import DDPMScheduler

    beta = sampling.betas()
    assert float(beta.max()) < 0.999  # so nothing was clipped
    kept = DDPMScheduler(trained_betas=beta.numpy()).alphas_cumprod.double()
    torch.testing.assert_close(
        kept, torch.cos(math.pi / 2 * sampling.moments()) ** 2, rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize("count", [5, 20, 100])
@pytest.mark.parametrize("name", list(sampling.SAMPLERS))
def test_our_samplers_and_diffusers_schedulers_give_the_same_samples(name, count):
    run = runs_of(Ensemble, 1)[0]
    weights, combination = (
        StackedMLP.initial(run.sizes, torch.Generator().manual_seed(1)),
        torch.arange(16),
    )
    one, other = (
        run.generate(weights, combination, count, make(name, count))
        for make in (sampling.ours, sampling.theirs)
    )
    torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-3)


def test_a_number_of_evaluations_between_two_steps_is_refused():
    with pytest.raises(ValueError, match="sampling: evaluations must be divisors of 1000, got 30"):
        sampling.ours("DDIM", 30)


def test_without_diffusers_its_side_is_missing_and_said_to_be(monkeypatch):
    monkeypatch.setattr(sampling, "find_spec", lambda name: None)
    sampling.schedulers.cache_clear()
    assert list(sampling.sides()) == ["ours"]
    sampling.schedulers.cache_clear()
    turns = pd.DataFrame(
        {"turn": [0], "sampler": ["DDIM"], "samples": [4], "side": ["ours"], "seconds": [1.0]}
    )
    assert "`diffusers` is not installed here" in evaluation_finding(
        sampling.evaluation_ratios(turns)
    )


def test_sampling_errors_and_turns_have_every_sampler_and_side():
    settings = TrainingSettings(ARCS, width=8, hidden=1, batch=16, held_out=0, n_eval=2)
    rows = run_table(["feature"], [0.1], [50], [0.01], [5], 2)
    trained = train(rows, settings)
    from gmmdiff.pipeline.results import progress

    errors = sampling.sampling_errors(rows, trained, settings, [5], progress)
    assert (
        len(errors) == 2 * (1 + 3 * (3 + 1))
        and errors["error"].min() > 0
        and set(errors["device"]) == {"cpu"}
    )
    assert (
        "DPM-Solver++(2M) with 5 evaluations minus ancestral sampling with 1000"
        in sampling_finding(errors)
    )
    turns = sampling.evaluation_turns(
        next(rows.itertuples(index=False)), trained.parameters[0], settings, 5, 4, 2
    )
    assert len(turns) == 2 * 6 and len(sampling.evaluation_ratios(turns)) == 3


def records(folder, **stages):
    for name, content in stages.items():
        (folder / f"{name}.json").write_text(
            json.dumps({"device": "cpu", "packages": {}} | content)
        )
    return stage_times(run_records(folder))


def at(minute, second):
    return f"2026-01-01T00:{minute:02}:{second:02}.000+00:00"


def test_stage_times_and_shares(tmp_path):
    first = {
        "started": at(0, 0),
        "seconds": 40.0,
        "spent": {"training": 30.0, "sampling": 6.0, "classifying": 2.0},
        "memory": 500,
    }
    second = {"started": at(0, 50), "seconds": 50.0, "spent": {}, "memory": 300}
    found = records(tmp_path, first=first, second=second, performance=second)
    assert found["stage"].tolist() == ["first", "second"] and found["other"].tolist() == [2, 0]
    assert found["outside"].tolist() == pytest.approx([0.1, 1])
    assert pipeline_share(found) == pytest.approx(0.1)  # 10 of 100 seconds
    said = stages_finding(found)
    assert (
        "90.0% is training or sampling (target 90%: met)" in said
        and "outside the notebooks: 10.0%" in said
    )


def test_what_old_records_do_not_hold_is_said(tmp_path):
    found = records(
        tmp_path,
        old={"seconds": 3.0},
        new={"started": at(0, 0), "seconds": 1.0, "spent": {}, "memory": 1},
    )
    said = stages_finding(found)
    assert "Training stages: not recorded" in said and "1 of 2 records do not say" in said
    assert math.isnan(pipeline_share(found))


def test_no_record_at_all_is_said(tmp_path):
    found = stage_times(run_records(tmp_path))
    assert (
        "Training stages: not recorded. Share of `dvc repro` outside the notebooks: not recorded"
        in stages_finding(found)
    )
    assert figures.stage_shares(found).axes


def test_stages_of_two_runs_are_not_one_pipeline(tmp_path):
    both = {"seconds": 10.0, "spent": {}, "memory": 1}
    assert math.isnan(
        pipeline_share(
            records(tmp_path, a=both | {"started": at(0, 0)}, b=both | {"started": at(30, 0)})
        )
    )


def test_sentences_follow_the_numbers():
    ratio = pd.DataFrame(
        {"device": "cpu", "shape": ["a", "b"], "median": [0.8, 0.7], "low": 0.6, "high": 0.9}
    )
    assert "not met (1 of 2 shapes)" in training_finding(ratio)
    assert ": met (1 of 1 shapes)" in training_finding(ratio.head(1))
    growth = pd.DataFrame(
        {
            "device": "cpu",
            "shape": "small",
            "rows": [1, 64],
            "rival": "loop",
            "median": [0.9, 9.0],
            "low": 1.0,
            "high": 10.0,
        }
    )
    said = growth_finding(growth, "loop")
    assert "slower with 1 rows" in said and "9.0 [1.0, 10.0], met" in said
    assert "with 1024 rows: not measured" in growth_finding(growth, "cuda")
