"""Where the final answer stands in a text."""

import pytest

from baiwen.verify.math import extract, final_answer
from baiwen.verify.math.compare import equal

FOUND = [
    (r"so \boxed{\frac{1}{2}}.", "1/2"),
    (r"First \boxed{3}, then \boxed{4}.", "4"),
    (r"the roots are \boxed{3} and \boxed{4}.", "3, 4"),
    (r"$\boxed{1}$, $\boxed{2}$ or $\boxed{3}$", "1, 2, 3"),
    (r"\boxed{\boxed{7}}", "7"),
    (r"\boxed{x \in \{1, 2\}}", "1, 2"),
    (r"\boxed 9", "9"),
    (r"\fbox{9}", "9"),
    ("3+4=7\n#### 7", "7"),
    ("#### $1,234", "1234"),
    ("The answer is 12.", "12"),
    ("The answer is 12. I checked it 3 times.", "12"),
    ("The final answer is: $x = 3$. I hope it is correct.", "3"),
    ("**Answer:** 5 apples", "5"),
    ("**Final Answer**\nThe final answer is $\\frac{3}{4}$", "0.75"),
    ("Answer:\n\n\\[ x = 5 \\]\n", "5"),
    ("Work: 1+1=2\nA: 2", "2"),
    ("所以答案是12。", "12"),
    ("答：小明有12个苹果。", "12"),
    ("最终答案为：3/4", "0.75"),
    ("So we have $a = 2$ and then $b = 7$.", "7"),
    ("It is **42**.", "42"),
    ("Adding up, 5 + 3 = 8 apples are left", "8"),
    ("There are 3 dogs, 4 cats and so 7 animals in all", "7"),
    ("about 1,200.50 dollars", "1200.5"),
    ("it costs $-5", "-5"),
    ("from 9-4 on", "4"),
    ("7", "7"),
]
NOT_FOUND = ["", "   ", "I do not know", r"\boxed{}", "no idea!", "$$"]


@pytest.mark.parametrize(("text", "truth"), FOUND)
def test_the_final_answer_is_found(text, truth):
    assert equal(final_answer(text, truth), truth)


@pytest.mark.parametrize("text", NOT_FOUND)
def test_no_answer_is_made_up(text):
    assert not equal(final_answer(text, "7"), "7")


def test_a_box_that_does_not_close_is_no_box():
    assert extract.last_boxed(r"\boxed{1} and then \boxed{2") == "1"


def test_boxes_are_joined_only_where_the_text_joins_them():
    assert extract.last_boxed(r"\boxed{1} so next comes \boxed{2}") == "2"
    assert extract.last_boxed(r"\boxed{1}\boxed{2}") == "2"


def test_what_is_read_does_not_depend_on_the_truth():
    assert final_answer("the answer is 5, not 6", "5") == final_answer(
        "the answer is 5, not 6", "6"
    )


def test_only_the_end_of_a_long_text_is_searched():
    assert extract.last_boxed(r"\boxed{1}" + " " * 100) == "1"
    assert extract.candidates(r"\boxed{1}" + " " * 30_000 + "2")[0] == "2"
