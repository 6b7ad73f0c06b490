"""One procedural task, and its text as a plain document for pre-training and few-shot prompts.

    Task(kind="arithmetic", prompt="What is 47 + 35?", reply="7+5=12\\n4+3+1=8\\n47+35=82",
         answer="82", verifier="number", key="47+35")

becomes, as a conversation, a user's and an assistant's message, and as a document

    Question: What is 47 + 35?
    Answer: 7+5=12
    4+3+1=8
    47+35=82

`key` names the instance whatever its phrasing. A hash of it says on which side the instance falls,
so no instance is ever both trained on and tested, whatever the seed and the counts.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from baiwen import verify

Message = dict[str, Any]

HELDOUT_SHARE = 20  # one instance in so many is held out
CHINESE_SHARE = 0.2  # of the instances of a kind that speaks both languages


@dataclass(frozen=True)
class Task:
    """An instance: what is asked, a right reply, and what a verifier needs to judge any other."""

    kind: str
    prompt: str
    reply: str
    answer: Any  # the truth, as the verifier takes it
    verifier: str  # a name of `verify.NAMES`
    key: str
    tools: list[dict[str, Any]] | None = None
    calls: list[dict[str, Any]] = field(default_factory=list)  # tool calls of the reply

    @property
    def messages(self) -> list[Message]:
        """The conversation; it ends with the assistant's reply."""
        reply: Message = {"role": "assistant", "content": self.reply}
        if self.calls:
            reply["tool_calls"] = [{"type": "function", "function": call} for call in self.calls]
        return [{"role": "user", "content": self.prompt}, reply]

    @property
    def heldout(self) -> bool:
        """On which side the instance falls: a function of its kind and key alone."""
        digest = hashlib.blake2b(f"{self.kind}\n{self.key}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % HELDOUT_SHARE == 0

    @property
    def echo_passes(self) -> bool:
        """Would the prompt alone, said back, be accepted? Such an instance measures nothing."""
        return verify.check(self.verifier, self.prompt, self.answer) is verify.Verdict.right


def instances(produce: Callable[[Random], Task], rng: Random) -> Iterator[Task]:
    """Endless instances of one kind, without those that an echo of the prompt would pass."""
    while True:
        task = produce(rng)
        if not task.echo_passes:
            yield task


def document(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
) -> str:
    """Messages as plain text; without an assistant's message at the end it ends in `Answer:`."""
    lines = [f"Tools: {_json(tool)}" for tool in tools or ()]
    lines += [f"{_LABELS[message['role']]}: {_said(message)}" for message in messages]
    if messages[-1]["role"] != "assistant":
        lines.append(f"{_LABELS['assistant']}:")
    return "\n".join(lines)


def chinese(rng: Random) -> bool:
    """Whether this instance is asked in Chinese."""
    return rng.random() < CHINESE_SHARE


_LABELS = {"system": "System", "user": "Question", "assistant": "Answer", "tool": "Result"}


def _said(message: Mapping[str, Any]) -> str:
    calls = [
        f"<tool_call>\n{_json(call['function'])}\n</tool_call>"
        for call in message.get("tool_calls", ())
    ]
    return "\n".join([message["content"], *calls] if message["content"] else calls)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
