"""Prompts to answer: what was asked, in ids, and how an answer is judged.

    {"prompt": [messages], "answer": "46", "verifier": "number", "kind": "arithmetic", "tools"?,
     "responses"?: [{"name": "weather", "arguments": {"city": "Rome"}, "content": "21 degrees"}]}

    prompts = read(Path("prompts.jsonl"), tokenizer, room=896)

What cannot be answered or judged is named here, before anything is computed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from baiwen import files, verify
from baiwen.errors import UserError
from baiwen.tokenizer import messages
from baiwen.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Prompt:
    """A row of the file."""

    number: int  # of the row, from 0
    ids: list[int]  # up to the head of the assistant's turn
    messages: list[dict[str, Any]]
    answer: Any  # the truth, as the verifier takes it; None where there is none
    verifier: str | None
    kind: str
    tools: list[dict[str, Any]] | None = None
    responses: list[dict[str, Any]] = field(default_factory=list)  # what calls of them give


def read(
    path: Path,
    tokenizer: Tokenizer,
    room: int,
    verified: bool = True,
    offered: Sequence[Mapping[str, Any]] = (),
) -> list[Prompt]:
    """The prompts of a file, each of at most `room` tokens.

    verified: every row must say what is right and which verifier judges it. offered: tools that
    every prompt is told of, beside its own. UserError names the first row that is not as it must
    be, or a file without any.
    """
    found = []
    for number, row in enumerate(rows(path, verified)):
        tools = [*offered, *(row.get("tools") or ())]
        ids = tokenizer.render(row["prompt"], tools, generate=True).ids
        if len(ids) > room:
            raise UserError(
                f"{path}: row {number + 1} has {len(ids):,} tokens; beside an answer of max_tokens "
                f"there is room for {max(room, 0):,}: {asked(row['prompt']):.80}"
            )
        found.append(_prompt(number, ids, row))
    return found


def rows(path: Path, verified: bool = True) -> list[dict[str, Any]]:
    """The rows of a file of prompts, checked but for their length, which needs a tokenizer."""
    found = list(files.read_jsonl(path))
    if not found:
        raise UserError(f"{path}: holds no prompt")
    needed = ("prompt", "answer", "verifier") if verified else ("prompt",)
    for number, row in enumerate(found, start=1):
        for name in needed:
            if name not in row:
                raise UserError(f"{path}: row {number} has no `{name}`: {json.dumps(row):.80}")
        if verified and row["verifier"] not in verify.NAMES:
            raise UserError(
                f"{path}: row {number} names the verifier {row['verifier']!r}; there are "
                f"{', '.join(verify.NAMES)}"
            )
        _check(row, f"{path}: row {number}")
    return found


def asked(messages: Sequence[Mapping[str, Any]]) -> str:
    """The last thing that was said before the answer."""
    return str(messages[-1].get("content") or "")


def _check(row: Mapping[str, Any], where: str) -> None:
    """UserError where a prompt, its kind, its tools or what they give is not in its form."""
    try:
        messages.check(row["prompt"])
        messages.check_tools(row.get("tools"))
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    if not isinstance(row.get("kind", ""), str):
        raise UserError(f"{where}: `kind` must be a text, not {row['kind']!r:.60}")
    _check_responses(row.get("responses", []), where)


def _check_responses(responses: object, where: str) -> None:
    """UserError where these are not calls with what they give."""
    if not isinstance(responses, list):
        raise UserError(f"{where}: `responses` must be a list")
    for response in responses:
        if not isinstance(response, dict) or response.keys() != {"name", "arguments", "content"}:
            raise UserError(
                f"{where}: a response has name, arguments and content: {json.dumps(response):.80}"
            )
        try:
            call = {"role": "assistant", "tool_calls": [response]}
            messages.check([call, {"role": "tool", "content": response["content"]}])
        except UserError as error:
            raise UserError(f"{where}: responses: {error}") from error


def _prompt(number: int, ids: list[int], row: Mapping[str, Any]) -> Prompt:
    return Prompt(
        number=number,
        ids=ids,
        messages=row["prompt"],
        answer=row.get("answer"),
        verifier=row.get("verifier"),
        kind=row.get("kind", ""),
        tools=row.get("tools"),
        responses=row.get("responses", []),
    )
