"""What a verifier says.

    number.check("3+4=7", 7)        -> Verdict.right
    number.check("", 7)             -> Verdict.wrong
    number.check("7", "seven")      -> Verdict.error: the truth is no number, the row is at fault

Five verdicts and no score, so that "could not tell" never turns into a silent zero.
"""

from enum import StrEnum


class Verdict(StrEnum):
    """One answer against its truth; a `str`, so it goes into JSON as its own name."""

    right = "right"
    wrong = "wrong"
    undecided = "undecided"  # the verifier cannot tell; the caller chooses what that is worth
    error = "error"  # the truth or the verifier is at fault, not the answer
    timeout = "timeout"  # the check ran out of its budget

    @classmethod
    def of(cls, passed: bool) -> "Verdict":
        """`right` where `passed`, else `wrong`."""
        return cls.right if passed else cls.wrong
