"""Prompts: what a model is asked for, with places for a document or a topic.

    name = "letters"                       # a TOML file of one's own
    form = "text"
    language = "en"
    domain = "prose"
    text = "Write a letter in which somebody explains {topic}. Use what is here:\\n\\n{document}"

    prompt = find("textbook-zh")           # one of ours, by name
    prompt = find("prompts/letters.toml")
    filled(prompt, Seed("id", "What a prism does ...", {}))            # messages

`{document}` and `{topic}` are the only places; other braces are words. A document is data: it is
put between fences that nothing in it can have foreseen. The form says what the reply is read as
(`forms.py`), and by that how it is checked.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from baiwen import config, mistakes
from baiwen.config import Knobs
from baiwen.data.generate.ours import DATA, FORMS, OURS
from baiwen.errors import UserError

Form = Literal["text", "questions", "problem", "exercise"]
PLACES = re.compile(r"\{(document|topic)\}")


class Prompt(Knobs):
    """What is asked for."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
    form: Form = "text"  # what the reply is read as
    language: Literal["en", "zh"] = "en"  # of what is written
    domain: str | None = None  # of what is written; none: that of its seed
    truth: bool = False  # of a problem: the answer is that of the seed, in its `meta.answer`
    text: str  # with {document}, {topic} or both

    @model_validator(mode="after")
    def _placed(self) -> Self:
        if not self.wants:
            raise ValueError("text has neither {document} nor {topic}, so all replies would be one")
        if self.truth and (self.form != "problem" or "document" not in self.wants):
            raise ValueError("truth is for problems that are made of a document")
        return self

    @property
    def wants(self) -> set[str]:
        """Which places it has."""
        return set(PLACES.findall(self.text))


@dataclass(frozen=True)
class Seed:
    """What a prompt is filled with."""

    id: str
    document: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)  # of the document
    topic: str = ""
    round: int = 0  # how often the prompt has been filled with it before


def find(name: str) -> Prompt:
    """One of ours by its name, or that of a TOML file; UserError where there is none."""
    if name.endswith(".toml"):
        return config.parse(config.read(name), Prompt, name)
    if name not in OURS:
        hint = mistakes.nearest(name, sorted(OURS))
        raise UserError(f"there is no prompt {name!r}.{hint} Ours: {', '.join(sorted(OURS))}")
    return Prompt(name=name, **OURS[name])


def file(name: str) -> Path | None:
    """The file that a prompt is read from, where it is not ours."""
    return Path(name) if name.endswith(".toml") else None


def filled(prompt: Prompt, seed: Seed) -> list[dict[str, str]]:
    """The messages that ask for it."""
    fence = hashlib.sha256(seed.document.encode()).hexdigest()[:12]
    values = {
        "document": f"<document {fence}>\n{seed.document}\n</document {fence}>",
        "topic": seed.topic,
    }
    asked = PLACES.sub(lambda place: values[place[1]], prompt.text)
    told = [DATA[prompt.language]] if "document" in prompt.wants else []
    told.append(FORMS[prompt.form][prompt.language])
    return [
        {"role": "system", "content": "\n\n".join(told)},
        {"role": "user", "content": asked},
    ]
