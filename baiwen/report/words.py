"""Numbers and text as a reader wants them: 81.3 %, +42.5 points, 12.3k, 4 min 05 s, 1.9 GiB.

    percent(0.8125) -> "81.2 %"        points(0.425) -> "+42.5"        duration(245) -> "4 min 05 s"

Nothing here rounds to a finer figure than what was measured.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

LONGEST = 600  # characters of a text that is shown
_UNPRINTABLE = re.compile(r"[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def percent(share: float) -> str:
    """A share in percent with one decimal."""
    return f"{100 * share:.1f} %"


def points(difference: float) -> str:
    """A difference of shares in percentage points, signed."""
    return f"{100 * difference:+.1f}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, in the two largest units."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def count(number: float) -> str:
    """A whole number with its thousands set apart."""
    return f"{round(number):,}"


def short(number: float) -> str:
    """Three figures and a letter: 950, 12.3k, 4.56M."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def tokens(length: int) -> str:
    """A length in tokens, in units of 1,024 where it is a whole number of them: 4K, 128K, 1,000."""
    return f"{length // 1024}K" if length % 1024 == 0 else count(length)


def size(number: float) -> str:
    """Bytes in binary units."""
    for unit, letter in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if number >= unit:
            return f"{number / unit:.1f} {letter}"
    return f"{round(number)} B"


def between(estimate: Mapping[str, Any], write: Callable[[float], str]) -> str:
    """The interval of an estimate, both ends by `write`."""
    return f"{write(estimate['low'])} to {write(estimate['high'])}"


def told(value: object) -> str:
    """A truth as text: a string as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def cut(text: str) -> str:
    """The end of a text that is too long to show."""
    return text if len(text) <= LONGEST else f"[...] {text[-LONGEST:]}"


def head(text: str) -> str:
    """The beginning of a text that is too long to show."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} [...]"


def probability(p: float) -> str:
    """A p-value; the very small ones as a bound."""
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}"


def printable(text: str) -> str:
    """What no page may hold (control characters, half characters) as U+FFFD; plain line ends."""
    return _UNPRINTABLE.sub("\ufffd", re.sub(r"\r\n?", "\n", text))
