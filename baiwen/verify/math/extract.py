"""Where in a text the final answer stands.

    candidates("... so \\boxed{\\frac{1}{2}}.")                    -> ["\\frac{1}{2}"]
    candidates("3+4=7\\n#### 7")                                   -> ["7"]
    candidates("The answer is $x = 3$. I hope it is correct.")     -> ["$x = 3$", "x = 3", ...]
    candidates("所以答案是12。")                                     -> ["12", ...]

The order, the first that there is:

1. the last `\\boxed{}` (several only where the text joins them by "and", "or" or a comma);
2. what follows the last "####", "answer is", "Answer:", "答案";
3. the text itself, where it is one short line; its last formula; its last bold words; what follows
   the last `=` of its last line; its last number.

Of what a mark announces, too, the whole comes first and then its first formula, bold words and
number. The caller takes the first candidate that it can read, whatever the truth is.
"""

import re
from collections.abc import Iterator

_TAIL = 20_000  # characters at the end of a text that are searched
_LINE = 300  # characters of a line that may be an answer as a whole
_LINK = 40  # characters between two boxes that belong together

_BOX = re.compile(r"\\(?:boxed|fbox)(?:[ \n]?(?=\{)| (\w+))")
_JOINED = re.compile(r"[\s$.,;、，]*+(?:(?:and|or|和|或|与|\\text\s?\{\s?(?:and|or)\s?\})[\s$]*+)?")
_MARK = re.compile(
    r"####"
    r"|(?:final\s|correct\s)?(?:answers?|ans)\b(?:[^.\n:=#]{0,40}?\b(?:is|are|be)\b|\**\s?[:：=])"
    r"|(?:最终)?答案(?:应该?)?(?:是|为|[:：])*|^[ \t]*+(?:答|解)[ \t]*[:：]|^[ \t]*+A:|故选|因此选",
    re.IGNORECASE | re.MULTILINE,
)
_SENTENCE = re.compile(r"[.;；](?:\s|$)|。|<\|")
_CLOSING = {"$$": "$$", "$": "$", "\\[": "\\]", "\\(": "\\)"}
_OPENING = re.compile(r"\\[\\$]|\$\$|\$|\\\[|\\\(")
_BOLD = re.compile(r"\*\*([^*\n]+)\*\*")
_NUMBER = re.compile(
    r"(?:(?<![\w.)}])-|-(?=[$€£¥]))?\s?[$€£¥]?"
    r"(?:\\[dt]?frac\{\d+\}\{\d+\}"
    r"|(?:\d{1,3}(?:,\d{3}(?!\d))++|\d++)(?:\.\d+)?(?:[eE][+-]?\d+)?(?:/\d+(?![./]?\d))?|\.\d+)"
    r"(?:\s?\\?%)?",
    re.ASCII,
)
_LATEX = re.compile(r"\\(?![dt]?frac)[a-zA-Z]")


def candidates(text: str) -> list[str]:
    """What may be the final answer, best first; empty where there is nothing at all."""
    text = text[-_TAIL:]
    if (boxed := last_boxed(text)) is not None:
        return [boxed]
    if (marked := after_mark(text)) is not None:
        return _parts(marked, 0)
    return _parts(text, -1)


def last_boxed(text: str) -> str | None:
    """What is in the last box that closes, with those that the text joins to it."""
    boxes = _boxes(text)
    if not boxes:
        return None
    first = len(boxes) - 1
    while first and _linked(text[boxes[first - 1][2] + 1 : boxes[first][0]]):
        first -= 1
    return ", ".join(text[opening + 1 : close] for _, opening, close in boxes[first:])


def _linked(between: str) -> bool:
    return len(between) < _LINK and bool(between.strip("$ ")) and bool(_JOINED.fullmatch(between))


def _boxes(text: str) -> list[tuple[int, int, int]]:
    """The boxes that hold no other: where each begins, and its braces (or what is there)."""
    pairs = _braces(text)
    found: list[tuple[int, int, int]] = []
    for box in _BOX.finditer(text):
        if not box[1] and box.end() not in pairs:
            continue
        if found and found[-1][2] > box.start():
            found.pop()
        begin, end = (box.start(1) - 1, box.end()) if box[1] else (box.end(), pairs[box.end()])
        found.append((box.start(), begin, end))
    return found


def unwrapped(text: str) -> str:
    """The text without braces around all of it."""
    return text[1:-1] if _braces(text).get(0) == len(text) - 1 else text


def _braces(text: str) -> dict[int, int]:
    """For each opening brace that is closed, its closing one; escaped ones are none."""
    pairs, open_at = {}, []
    for brace in re.finditer(r"\\.|[{}]", text):
        if brace[0] == "{":
            open_at.append(brace.start())
        elif brace[0] == "}" and open_at:
            pairs[open_at.pop()] = brace.start()
    return pairs


def after_mark(text: str) -> str | None:
    """What the last mark of a final answer announces: its line, or the next with text."""
    marks = list(_MARK.finditer(text))
    if not marks:
        return None
    rest = text[marks[-1].end() :].lstrip(" \t\r\n*:：=_")
    if rest.startswith(("$$", "\\[")):
        return next(_formulas(rest), None)
    return rest.partition("\n")[0] or None


def _formulas(text: str) -> Iterator[str]:
    """What stands between `$ $`, `$$ $$`, `\\( \\)` or `\\[ \\]`."""
    at = 0
    while opening := _OPENING.search(text, at):
        closing = _CLOSING.get(opening[0])
        end = text.find(closing, opening.end()) if closing else -1
        at = opening.end()
        if closing and end > at:
            yield text[at:end]
            at = end + len(closing)


def _parts(text: str, at: int) -> list[str]:
    """From the whole of a text to a number in it: the first ones (`at` 0), or the last (-1)."""
    text = text.strip()
    found = []
    if len(text) <= _LINE and "\n" not in text:
        found += [text, _SENTENCE.split(text, maxsplit=1)[0]]
    for matches in (list(_formulas(text)), _BOLD.findall(text)):
        found += matches[at:][:1]
    line = text.rpartition("\n")[2]
    _, equals, right = line.rpartition("=")
    if equals:
        found.append(right)
    if not _LATEX.search(line):  # there, a number is a part of something larger
        found += _NUMBER.findall(text)[at:][:1]
    return [part for part in (candidate.strip(" \t*_`\"'") for candidate in found) if part]
