"""The program of the worker: Math-Verify behind two pipes, in a process that may die at any time.

Run by its path, so it imports nothing of Baiwen. It loads the library once, then forks a child that
answers; a child that runs out of its time is ended by the kernel (SIGALRM with its default action,
which no Python and no C code can hold up) and the next one is forked in milliseconds.

    stdin   {"id": 7, "answer": "x+1", "truth": "1+x", "seconds": 0.8}
    stdout  ready            a child waits
            7 right          its verdict: right, wrong or undecided

The end of stdin ends the child, and with it the whole program.
"""

import json
import os
import resource
import signal
import sys
from typing import Any

import math_verify

_MEMORY = 1 << 30  # bytes of address space for a child
_DIGITS = 12  # decimals to which floats have to agree


def main() -> None:
    """Forks a child whenever the last was killed; one that ends by itself ends the program."""
    judged("x+1", "\\frac{1}{2}")  # builds the library's own tables before the fork
    killed = True
    while killed:
        if os.fork() == 0:
            serve()
            os._exit(0)
        _, status = os.wait()
        killed = os.WIFSIGNALED(status)


def serve() -> None:
    """Answers questions until they end."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    say("ready")
    for line in sys.stdin:
        question = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, question["seconds"])
        try:
            verdict = judged(question["answer"], question["truth"])
        except Exception:
            verdict = "undecided"  # the library's own limits, memory and recursion among them
        signal.setitimer(signal.ITIMER_REAL, 0)
        say(f"{question['id']} {verdict}")


def say(line: str) -> None:
    """One line, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def judged(answer: str, truth: str) -> str:
    """Math-Verify's verdict; undecided where it could read only one of the two, or none."""
    found, expected = parsed(answer), parsed(truth)
    if not readable(found) or not readable(expected):
        return "undecided"
    same = math_verify.verify(expected, found, float_rounding=_DIGITS, timeout_seconds=None)
    return "right" if same else "wrong"


def parsed(text: str) -> list[Any]:
    """What the library makes of a text that is mathematics as a whole."""
    return math_verify.parse(f"${text.replace('$', ' ')}$", parsing_timeout=None)


def readable(found: list[Any]) -> bool:
    """Is there more than the text itself?"""
    return any(not isinstance(value, str) for value in found)


if __name__ == "__main__":
    main()
