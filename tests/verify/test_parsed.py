"""What a verifier takes for the final answer."""

import pytest

from baiwen import verify


@pytest.mark.parametrize(
    ("verifier", "answer", "truth", "found"),
    [
        ("number", "7+5=12\n47+35=82", "82", "82"),
        ("number", "none", "82", None),
        ("math", "so \\boxed{\\frac{1}{2}}.", "1/2", "\\frac{1}{2}"),
        ("exact", "Rome", "Rome", None),
    ],
)
def test_the_final_answer_is_what_the_verifier_reads(verifier, answer, truth, found):
    assert verify.parsed(verifier, answer, truth) == found
