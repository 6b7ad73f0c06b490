"""What an answer holds besides words: blocks of code, and literals.

    program("Sure:\\n```python\\ndef add(a, b):\\n    return a + b\\n```\\nDone.", "add")
        -> "def add(a, b):\\n    return a + b\\n"

    value("[ANSWER]f(2) == [4][/ANSWER]")     -> ([4],)
    arguments("f(1, key=2)", "f")             -> ((1,), {"key": 2})

An answer may be hostile. A program is found line by line, never parsed; a literal is, up to a
length, and nothing is computed from it.
"""

import ast
import re
import textwrap

LONGEST = 10_000  # characters of a literal that is still read

_FENCE = re.compile(r"\s*(?:```|~~~)\s*([\w+#.-]*)")
_PYTHON = ("", "python", "python3", "py", "py3")


def program(answer: str, defines: str = "") -> str:
    """The program of an answer: its last block of Python that defines a name, else its last block,
    else all of it. A block that is not closed goes on to the end."""
    found = blocks(answer)
    if not found:
        return answer
    name = re.escape(defines)
    definition = re.compile(rf"^(?:(?:async +)?def|class) +{name}\b|^{name} *=", re.M)
    defining = [block for block in found if defines and definition.search(block)]
    return (defining or found)[-1]


def blocks(answer: str) -> list[str]:
    """The texts of the fenced blocks that are Python or of no language."""
    found: list[str] = []
    lines: list[str] | None = None
    language = ""
    for line in [*answer.splitlines(keepends=True), "```"]:
        fence = _FENCE.match(line)
        if not fence:
            if lines is not None:
                lines.append(line)
        elif lines is None:
            lines, language = [], fence[1].lower()
        else:
            if language in _PYTHON and "".join(lines).strip():
                found.append(textwrap.dedent("".join(lines)))
            lines = None
    return found


def value(answer: str) -> tuple[object] | None:
    """The literal that an answer states, alone or to the right of `==`, in a tuple; or None."""
    node = _expression(answer)
    if isinstance(node, ast.Compare) and isinstance(node.ops[-1], ast.Eq):
        node = node.comparators[-1]
    try:
        return None if node is None else (ast.literal_eval(node),)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def arguments(answer: str, function: str) -> tuple[tuple[object, ...], dict[str, object]] | None:
    """The literal arguments that an answer states: `1, 2`, `f(1, 2)` or `f(1, 2) == 3`; or None."""
    node = _expression(answer)
    if isinstance(node, ast.Compare):
        node = node.left
    if not (isinstance(node, ast.Call) and _name(node.func) == function):
        node = _parsed(f"{function}({_stated(answer)}\n)")
    if not isinstance(node, ast.Call):
        return None
    try:
        named = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords}
        return tuple(map(ast.literal_eval, node.args)), named
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _stated(answer: str) -> str:
    """The text between the last [ANSWER] and its end (CRUXEval's form), or in the last block."""
    found = answer.rpartition("[ANSWER]")[2].partition("[/ANSWER]")[0]
    found = (blocks(found) or [found])[-1].strip()
    return found.removeprefix("assert ").strip()


def _expression(answer: str) -> ast.expr | None:
    return _parsed(_stated(answer))


def _parsed(text: str) -> ast.expr | None:
    if len(text) > LONGEST:
        return None
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
