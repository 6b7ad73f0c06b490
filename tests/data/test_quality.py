"""Verdicts by value and by share, and domains by label."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baiwen.data import domains, quality
from baiwen.data.domains import Assign
from baiwen.data.pipeline.step import VERDICT, Global, Map
from baiwen.data.quality import Quality


class Held:
    """Parts in memory, as a step is handed them."""

    def __init__(self, *tables):
        self.tables = tables

    def __len__(self):
        return len(self.tables)

    def table(self, part, columns):
        return self.tables[part].select(["id", *columns])


def judged(rules, *tables):
    """The verdicts on the rows of all tables, and that each part has its own."""
    [step] = quality.steps(rules)
    if isinstance(step, Global):
        found = list(step.function(Held(*tables)))
    else:
        found = [step.function(table.select(["id", *step.reads])) for table in tables]
    assert [len(one) for one in found] == [len(table) for table in tables]
    assert all(one.schema == VERDICT for one in found)
    return pa.concat_tables(found).to_pylist()


def table(scores, **columns):
    made = {
        "id": [str(n) for n in range(len(scores))],
        "classify.a": pa.array(scores, pa.float32()),
    }
    return pa.table(made | columns)


def kept(verdicts):
    return [place for place, one in enumerate(verdicts) if one["rule"] is None]


def test_a_bound_by_value_says_what_was_found_and_what_should_have_been():
    rules = [Quality(score="classify.a", least=2, most=4)]
    found = judged(rules, table([1, 2, 3, 4.5, None]))
    assert found[0] == {"rule": "classify.a: too low", "value": 1, "bound": 2}
    assert found[3] == {"rule": "classify.a: too high", "value": 4.5, "bound": 4}
    assert found[4] == {"rule": "classify.a: no score", "value": None, "bound": None}
    assert kept(found) == [1, 2] and found[1] == {"rule": None, "value": None, "bound": None}


def test_only_a_share_needs_all_documents_to_meet():
    assert isinstance(quality.steps([Quality(score="s.a", least=1)])[0], Map)
    [step] = quality.steps([Quality(score="s.a", keep=0.5, by="bytes", within=("language",))])
    assert isinstance(step, Global) and step.reads == ("s.a", "bytes", "language")


def test_the_best_share_is_of_all_parts_together():
    rules = [Quality(score="classify.a", keep=0.4)]
    found = judged(rules, table([1, 9, 2]), table([8, 3, 7, 4]), table([6, 5, 0]))
    assert kept(found) == [1, 3, 5, 7]
    assert found[0] == {"rule": "classify.a: not of the best 0.4", "value": 1, "bound": 6}


def test_a_share_of_bytes_ends_where_they_are_full():
    sizes = pa.array([10, 10, 70, 10])
    assert kept(judged([Quality(score="classify.a", keep=0.2, by="bytes")],
                       table([4, 3, 2, 1], bytes=sizes))) == [0, 1]  # fmt: skip
    assert kept(judged([Quality(score="classify.a", keep=0.3, by="bytes")],
                       table([4, 3, 2, 1], bytes=sizes))) == [0, 1, 2]  # fmt: skip


def test_each_language_has_a_share_of_its_own():
    languages = pa.array(["en", "en", "zh", "zh", None, None])
    rules = [Quality(score="classify.a", keep=0.5, within=("language",))]
    found = judged(rules, table([9, 8, 2, 1, 5, 4], language=languages))
    assert kept(found) == [0, 2, 4]
    assert [one["bound"] for one in found] == [None, 9, None, 2, None, 5]


def test_groups_are_of_all_fields_together():
    columns = {"language": ["en", "en", "zh", "zh"] * 2, "domain": ["a"] * 4 + ["b"] * 4}
    rules = [Quality(score="classify.a", keep=0.5, within=("domain", "language"))]
    assert kept(judged(rules, table([1, 2, 3, 4, 5, 6, 7, 8], **columns))) == [1, 3, 5, 7]


def test_a_rule_sees_what_the_ones_before_have_left():
    rules = [Quality(score="classify.a", most=5), Quality(score="classify.a", keep=0.5)]
    assert kept(judged(rules, table([1, 2, 3, 4, 6, 7, 8, 9]))) == [2, 3]


def test_scores_are_weighed():
    other = pa.array([0.0, 2.0, 4.0])
    rules = [Quality(score={"classify.a": 1.0, "classify.b": -0.5}, least=2)]
    found = judged(rules, table([3, 3, 3], **{"classify.b": other}))
    assert kept(found) == [0, 1]
    assert found[2] == {"rule": "+1 classify.a -0.5 classify.b: too low", "value": 1, "bound": 2}


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.sampled_from([0.1, 0.35, 0.5, 0.9]))
def test_a_share_is_reached_with_no_more_than_ties(scores, share):
    """And one more document of a worse score would not have been needed."""
    found = kept(judged([Quality(score="classify.a", keep=share)], table(scores)))
    worst = min(scores[place] for place in found)
    assert len(found) >= share * len(scores) - 1e-9
    assert sum(score > worst for score in scores) < share * len(scores)
    assert sorted(found) == [place for place, score in enumerate(scores) if score >= worst]


def test_parts_without_documents_are_no_matter():
    assert kept(judged([Quality(score="classify.a", keep=0.5)], table([]), table([1]))) == [0]
    assert judged([Quality(score="classify.a", least=1)], table([])) == []


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({"score": "classify.a"}, "needs least, most or keep"),
        ({"score": "educational", "least": 1}, "pattern"),
        ({"score": {}, "least": 1}, "at least 1"),
        ({"score": "classify.a", "keep": 1.0}, "less than 1"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(knobs, told):
    with pytest.raises(ValueError, match=told):
        Quality(**knobs)


def test_a_sure_label_becomes_the_domain_unless_it_is_fixed():
    made = pa.table(
        {
            "id": list("abcde"),
            "domain": ["prose", "prose", "code", None, "prose"],
            "classify.label": ["news", "law", "technology", "arts", None],
            "classify.probability": pa.array([0.9, 0.3, 0.9, 0.5, None], pa.float32()),
        }
    )
    [step] = domains.steps(Assign(least=0.5))
    found = step.function(made.select(["id", *step.reads]))
    assert found["domain"].to_pylist() == ["news", None, None, "arts", None]
    assert found.schema.field("domain").type == pa.string()
