import doctest

import pytest

import dtb.observe.regime
from dtb.observe.regime import judge_regime, say_regime

REST = {"mean_rate_hz": 7.4, "isi_cv": 1.1, "synchrony": 2.8, "slowest_hz": 5.0, "fastest_hz": 7.9}


def test_a_brain_at_rest_meets_every_bound():
    assert [bound.met for bound in judge_regime(**REST)] == [True] * 5


@pytest.mark.parametrize(
    ("what", "figure", "name"),
    [
        ("mean_rate_hz", 2.9, "mean rate"),
        ("mean_rate_hz", 10.1, "mean rate"),
        ("isi_cv", 0.69, "ISI CV"),
        ("isi_cv", 1.31, "ISI CV"),
        ("synchrony", 20.1, "synchrony"),
        ("slowest_hz", 0.09, "rate of the slowest population"),
        ("fastest_hz", 101.0, "rate of the fastest population"),
        ("mean_rate_hz", float("nan"), "mean rate"),
    ],
)
def test_a_figure_outside_its_range_is_named(what, figure, name):
    found = judge_regime(**REST | {what: figure})
    assert [bound.name for bound in found if not bound.met] == [name]
    assert say_regime(found).startswith(f"NOT that of a brain at rest: {name} {figure:.3g}, not")


def test_a_run_too_short_to_tell_is_neither_good_nor_bad():
    found = judge_regime(**REST | {"isi_cv": None})
    assert found[1].met is None
    assert say_regime(found) == "too short a run to tell"


def test_a_short_run_that_is_out_of_range_is_bad_all_the_same():
    assert (
        say_regime(judge_regime(50.0, None, None, 40.0, 60.0))
        == "NOT that of a brain at rest: mean rate 50, not 3 to 10"
    )


def test_the_examples_in_the_docstrings_run():
    result = doctest.testmod(dtb.observe.regime)
    assert result.attempted > 3 and result.failed == 0
