"""Intervals against published values, closed forms and their own coverage."""

import math
import random

import pytest

from baiwen.eval.statistics import Z, clustered, mcnemar, paired, proportion, ratio, wilson

SEED = 7


def pairs(both, gained, lost, neither):
    table = [(True, True)] * both + [(True, False)] * gained
    table += [(False, True)] * lost + [(False, False)] * neither
    return zip(*table, strict=True)


def test_z_is_the_normal_quantile():
    assert pytest.approx(1.959963984540054) == Z


@pytest.mark.parametrize("right", [0, 1, 25, 50])
def test_wilsons_ends_solve_the_score_equation(right):
    # Its definition: the ends are the p with (share - p)^2 = z^2 p (1 - p) / n.
    n = 50
    for end in wilson(right, n):
        assert (right / n - end) ** 2 == pytest.approx(Z**2 * end * (1 - end) / n, abs=1e-12)


def test_wilson_equals_a_published_value():
    # Newcombe (1998), Statistics in Medicine 17:857, table I: 81 of 263, method 3.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_a_proportion_carries_its_binomial_error():
    estimate = proportion(37, 50)
    assert estimate.value == 0.74
    assert estimate.standard_error == pytest.approx(math.sqrt(0.74 * 0.26 / 50))


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_the_interval_of_a_proportion_covers_the_truth_95_times_of_100(share):
    rng = random.Random(SEED)
    covered = 0
    for _ in range(2000):
        estimate = proportion(sum(rng.random() < share for _ in range(100)), 100)
        covered += estimate.low <= share <= estimate.high
    assert 0.93 <= covered / 2000 <= 0.975


def test_marks_that_stand_alone_are_a_proportion():
    assert clustered([1, 0, 1, 1], range(4)) == proportion(3, 4)


def test_marks_that_hang_together_count_as_their_clusters():
    """Ten clusters that are right or wrong as a whole are ten marks, not a hundred."""
    marks = [cluster < 6 for cluster in range(10) for _ in range(10)]
    found = clustered(marks, [place // 10 for place in range(100)])
    means = [1.0] * 6 + [0.0] * 4
    spread = sum((mean - 0.6) ** 2 for mean in means) / 9
    assert (found.value, found.n) == (0.6, 100)
    assert found.standard_error == pytest.approx(math.sqrt(spread / 10))
    assert found.low < wilson(6, 10)[0] + 0.01 and found.high > wilson(6, 10)[1] - 0.01


def test_one_cluster_is_one_mark_and_marks_all_alike_are_many():
    one = clustered([1, 0, 1], "aaa")
    assert (one.low, one.high) == wilson(2 / 3, 1)
    alike = clustered([1] * 10, [place // 5 for place in range(10)])
    assert (alike.low, alike.high, alike.standard_error) == (*wilson(10, 10), 0.0)


def test_the_interval_of_clusters_covers_the_truth_95_times_of_100():
    rng, covered = random.Random(SEED), 0
    clusters = [place // 8 for place in range(240)]
    for _ in range(400):
        ease = [rng.choice((0.3, 0.9)) for _ in range(30)]
        marks = [rng.random() < ease[cluster] for cluster in clusters]
        found = clustered(marks, clusters)
        covered += found.low <= 0.6 <= found.high
    assert 0.92 <= covered / 400 <= 0.98


def test_a_paired_interval_equals_the_published_example():
    # Newcombe (1998), Statistics in Medicine 17:2635, table II: a, b, c, d = 36, 12, 2, 0.
    difference = paired(*pairs(36, 12, 2, 0))
    assert difference.value == pytest.approx(0.2)
    assert (difference.low, difference.high) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def test_a_paired_error_is_that_of_the_mean_of_the_differences():
    differences = [0] * 20 + [1] * 12 + [-1] * 2 + [0] * 16
    mean = sum(differences) / 50
    variance = sum((d - mean) ** 2 for d in differences) / 49
    assert paired(*pairs(20, 12, 2, 16)).standard_error == pytest.approx(math.sqrt(variance / 50))


@pytest.mark.parametrize("shares", [(0.9, 0.05), (0.6, 0.5), (0.3, 0.3)])
def test_a_paired_interval_covers_the_truth_95_times_of_100(shares):
    rng, covered = random.Random(SEED), 0
    for _ in range(1500):
        draws = [rng.random() for _ in range(80)]  # one difficulty an item: the two correlate
        difference = paired([d < shares[0] for d in draws], [d < shares[1] for d in draws])
        covered += difference.low <= shares[0] - shares[1] <= difference.high
    assert covered / 1500 >= 0.93


def test_equal_runs_keep_the_width_of_their_interval():
    difference = paired([True] * 10, [True] * 10)
    assert difference.value == 0
    assert difference.low < -0.05 < 0.05 < difference.high


def test_mcnemar_is_the_two_sided_sign_test():
    # 12 of 14: 2 * (1 + 14 + 91) / 2^14
    assert mcnemar(12, 2) == 2 * (1 + 14 + 91) / 2**14
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 5) == 1.0


def test_items_that_are_not_paired_are_refused():
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        paired([True, False], [True])


def test_a_ratio_of_equal_items_has_no_error():
    estimate = ratio([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert estimate.value == 2.0
    assert estimate.standard_error == pytest.approx(0.0, abs=1e-12)


def test_the_error_of_a_ratio_is_its_spread_over_repeated_samples():
    rng = random.Random(SEED)

    def sample():
        sizes = [rng.uniform(50, 500) for _ in range(60)]
        return ratio([size * rng.gauss(2.0, 0.3) for size in sizes], sizes)

    estimates = [sample() for _ in range(400)]
    mean = sum(e.value for e in estimates) / 400
    spread = math.sqrt(sum((e.value - mean) ** 2 for e in estimates) / 399)
    claimed = sum(e.standard_error for e in estimates) / 400
    assert claimed == pytest.approx(spread, rel=0.15)


def test_one_item_has_no_spread_to_tell_of():
    estimate = ratio([3.0], [2.0])
    assert estimate.value == 1.5
    assert math.isnan(estimate.standard_error)
    assert math.isnan(estimate.low)
