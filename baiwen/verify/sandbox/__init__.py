"""Run programs that nobody trusts: no network, no files of the host, bounded in every direction.

    from baiwen.verify import sandbox

    sandbox.run("print(int(input()) + 1)", b"41\\n")    -> Result(level="A", stdout=b"42\\n", ...)
    sandbox.best()                                     -> "A": the best level that works here

Threat model, levels and limits: docs/sandbox.md. What a program prints is its own word; a verdict
about it is made outside, of data (`baiwen.verify.code`).
"""

from baiwen.verify.sandbox.execute import best, run, unusable
from baiwen.verify.sandbox.jail import LEVELS, Level
from baiwen.verify.sandbox.languages import LANGUAGES
from baiwen.verify.sandbox.limits import Limits, Result

__all__ = ["LANGUAGES", "LEVELS", "Level", "Limits", "Result", "best", "run", "unusable"]
