"""How a recipe says that a model is read: what the engine gets, what is refused."""

import pytest

from baiwen import config as recipes
from baiwen.engine.reach import Extend
from baiwen.errors import UserError
from baiwen.eval.reading import Reading
from baiwen.model.sizes import SIZES
from baiwen.model.sparse import Sparse

TINY = SIZES["tiny"]


def reading(**knobs):
    return recipes.parse(knobs, Reading, "x.toml")


def test_nothing_that_is_said_is_what_the_engine_does_by_itself():
    assert set(reading().knobs(TINY).values()) == {None}


def test_defaults_are_those_of_the_engine():
    knobs = reading(extend={}, sparse={}).knobs(TINY)
    assert knobs["extend"] == Extend()
    assert knobs["sparse"] == Sparse()


def test_the_same_checkpoint_is_read_plain_and_with_either_extension():
    reaches = {
        name: reading(context=8192, extend=extend).reach(TINY).told
        for name, extend in {
            "plain": {"dca": False, "rope": "none"},
            "yarn": {"dca": False},
            "dca": {},
            "both": {"rope": "yarn"},
        }.items()
    }
    assert "without an extension" in reaches["plain"]
    assert "by YaRN," in reaches["yarn"]
    assert "by dual chunk attention and YaRN's temperature" in reaches["dca"]
    assert "by dual chunk attention and YaRN," in reaches["both"]


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({"extend": {"factors": [0.5]}}, "a factor of 0.5 is below 1"),
        ({"extend": {"rope": "linear"}}, "rope"),
        ({"sparse": {"mass": 1.5}}, "mass"),
        ({"context": 0}, "context"),
    ],
)
def test_what_has_no_meaning_is_a_mistake_of_the_recipe(knobs, told):
    with pytest.raises(UserError, match=told):
        reading(**knobs)
