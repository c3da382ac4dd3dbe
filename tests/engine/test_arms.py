"""The arms' conditions against their definitions."""

import itertools

import pytest
import torch

from gmmdiff.core.streams import stream
from gmmdiff.engine.arms import GRANULARITIES, Conditioning

SIXTEEN = torch.tensor(list(itertools.product((0, 1), repeat=4)))


def conditioning(granularity, s_c=0.1, combinations=SIXTEEN):
    return Conditioning(granularity, s_c, combinations, stream(0, "conditioning"))


CONDITIONS = [1, 4, 16, 16, 16, 16]


@pytest.mark.parametrize(("granularity", "conditions"), zip(GRANULARITIES, CONDITIONS, strict=True))
def test_an_arm_tells_apart_what_it_knows_by_means_of_one_size(granularity, conditions):
    arm = conditioning(granularity)
    assert arm.means.shape == (16, 16)
    torch.testing.assert_close(arm.means.norm(dim=1), torch.full((16,), 4.0, dtype=torch.float64))
    assert len(arm.means.round(decimals=9).unique(dim=0)) == conditions
    assert (arm.admitted.sum(1) == 16 // conditions).all()


def test_a_feature_moves_only_its_own_part():
    means = conditioning("feature").means.unflatten(1, (4, 4))
    for i, j in itertools.combinations(range(16), 2):
        same = (means[i] - means[j]).norm(dim=1) < 1e-12
        assert (same == (SIXTEEN[i] == SIXTEEN[j])).all()


def test_scrambled_are_the_features_codes_of_other_combinations():
    """As many are shared, but two combinations that share one need not share an attribute."""
    means, feature = conditioning("scrambled").means, conditioning("feature").means
    permuted = (means.unsqueeze(1) - feature).norm(dim=-1).argmin(1)
    assert torch.equal(means, feature[permuted]) and len(permuted.unique()) == 16
    shared = [
        [int((table[i] == table[j]).sum()) for i, j in itertools.combinations(range(16), 2)]
        for table in (SIXTEEN, SIXTEEN[permuted])
    ]
    assert sorted(shared[0]) == sorted(shared[1]) and shared[0] != shared[1]


def test_shared_adds_a_code_of_its_own_where_the_class_is_known():
    known = torch.arange(14)
    arm = Conditioning("shared", 0.0, SIXTEEN, stream(0, "conditioning"), known)
    feature = conditioning("feature").means
    torch.testing.assert_close(arm.means[14:], feature[14:])
    direction = arm.means[:14] / arm.means[:14].norm(dim=1, keepdim=True)
    own = direction * (direction * feature[:14]).sum(1, keepdim=True) * 2 - feature[:14]
    # Both parts weigh the same, and the second are those of classes: orthogonal, of one length.
    torch.testing.assert_close(own @ own.T, 16 * torch.eye(14).double(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_s_c_is_counted_in_the_features_smallest_distance(granularity):
    arm, features = conditioning(granularity, 0.25), conditioning("feature")
    assert arm.scale == pytest.approx(0.25 * float(torch.pdist(features.means).min()))
    drawn = arm.sample(torch.full((20_000,), 5), stream(0, "draws"))
    deviation = torch.full((16,), arm.scale, dtype=torch.float64)
    torch.testing.assert_close(drawn.std(0), deviation, rtol=0.03, atol=0)
    torch.testing.assert_close(drawn.mean(0), arm.means[5], rtol=0, atol=0.05)
    point = conditioning(granularity, 0.0)
    assert torch.equal(point.sample(torch.arange(16), stream(0, "draws")), point.means)


def test_any_table_of_attributes():
    three = torch.tensor(list(itertools.product((0, 1, 2), (0, 1), (0, 1))))
    arms = [conditioning(granularity, 0.1, three) for granularity in GRANULARITIES]
    assert {arm.dim for arm in arms} == {12}
    assert [int(arm.admitted.sum(1).max()) for arm in arms] == [12, 2, 1, 1, 1, 1]
