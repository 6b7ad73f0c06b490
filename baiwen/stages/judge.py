"""Judge: a language model says which of two answers is better; where it is sure, a pair is made.

    stage = "judge"
    out = "runs/mine/judge"
    data = ["runs/tiny/pairs/answers.jsonl"]

    [endpoint]
    url = "http://127.0.0.1:8000/v1"

The report's labels of preference go by six criteria (section 4.3), and are made by people and by
programs; this is such a program. It reads prompts with two answers or more (`answers`: texts,
messages, or the rows of `answers.jsonl`), or pairs, whose `chosen` then counts as a label. Each two
answers are shown in both orders; only what both orders agree on becomes a pair. Writes

    pairs.jsonl    {"prompt", "chosen", "rejected", "tools"?, "kind"?, "source"}
    judge.json     {"model", "pairs", "decided", "undecided": {reason: n}, "order", "first_place",
                    "labels", "labels_by_kind", "criteria"}      (`rl/judge.py` says what each is)
    said.jsonl     {"text"}: every answer of the judge, in the order of the pairs

An answer is kept as soon as it has come: a run whose endpoint goes down stops, and is run again to
go on without asking twice.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import Field

from baiwen import endpoint, files, log
from baiwen.config import Count, Input, Knobs
from baiwen.endpoint import Answer, Ask, Bill, Endpoint
from baiwen.errors import UserError
from baiwen.eval.statistics import proportion
from baiwen.rl import judge, pairs
from baiwen.rl.judge import Missing, Question, Said
from baiwen.tokenizer import messages as protocol

Row: TypeAlias = Mapping[str, Any]
Messages: TypeAlias = Sequence[Row]


class Config(Knobs):
    """Which answers, judged by whom."""

    free: ClassVar = endpoint.FREE
    out: Path  # the run folder
    data: Annotated[tuple[Input, ...], Field(min_length=1)]  # JSONL: prompt and answers, or pairs
    endpoint: Endpoint  # the model that judges; report: unknown
    rubric: Input | None = None  # a text in place of ours: what the judge is told
    pairs_per_prompt: Count = 3  # of a prompt's answers, at most; not reported
    temperature: Annotated[float, Field(ge=0)] = 0.0  # of the judge; not reported
    max_tokens: Count = 512  # of an answer of the judge
    cache: Path | None = None  # folder of answers that runs share; none: the run keeps its own
    attempts: Count = 3  # times that the judge is asked until its answer can be read
    source: str = "judge"  # what the pairs written are marked with


def run(config: Config, folder: files.RunFolder) -> None:
    """Ask, decide, and write the pairs."""
    questions = [one for path in config.data for one in _questions(path, config)]
    if not questions:
        raise UserError(f"{', '.join(map(str, config.data))}: no prompt has two different answers")
    rubric = files.read_text(config.rubric) if config.rubric else judge.RUBRIC
    bill = Bill.of(config.endpoint)
    kept = (config.cache or folder.path / "state") / "replies.jsonl"
    with files.Ledger(kept) as cache, endpoint.opened(config.endpoint) as ask:
        said = _asked(config, questions, rubric, ask, cache, bill, folder.path / "said.jsonl")
        model = ask.name
    with files.jsonl_writer(folder.path / "pairs.jsonl") as write:
        for question, both in zip(questions, said, strict=True):
            winner = judge.decide(*both)
            if isinstance(winner, int):
                write(_pair(question, winner, config.source))
    found = judge.agreement(questions, said, lambda right, n: asdict(proportion(right, n)))
    about = {"model": model, "rubric": hashlib.sha256(rubric.encode()).hexdigest()}
    files.write_json(folder.path / "judge.json", about | found | {"bill": bill.told()})
    order = found["order"]
    log.say(
        f"{found['decided']:,} of {found['pairs']:,} pairs decided"
        + (f"; both orders agree on {order['value']:.1%}" if order else "")
        + f"; {bill.line()}"
    )


def plan(config: Config) -> dict[str, str | int]:
    """How much is asked; nothing before the data are there."""
    if not all(path.exists() for path in config.data):
        return {}
    asked = sum(1 for path in config.data for _ in _questions(path, config))
    return {"pairs": asked, "requests": f"{2 * asked:,}, more where an answer cannot be read"}


def _asked(
    config: Config,
    questions: Sequence[Question],
    rubric: str,
    ask: Ask,
    cache: files.Ledger,
    bill: Bill,
    path: Path,
) -> list[tuple[Said, Said]]:
    """What the judge says to both orders of each question; every reply goes to `path`."""
    sampling = {"temperature": config.temperature, "max_tokens": config.max_tokens}
    orders = (
        (judge.asked(question, rubric, swapped=swapped), sampling)
        for question in questions
        for swapped in (False, True)
    )
    concurrency, attempts = config.endpoint.concurrency, config.attempts
    work = endpoint.answers(
        ask, orders, cache, concurrency, _read_said, attempts, judge.again, bill
    )
    found, refused = list[Said](), list[str]()
    with endpoint.telling(cache), files.jsonl_writer(path) as write:
        for answer in log.track(work, "judge", 2 * len(questions), "requests"):
            for reply in answer.replies:
                write({"text": reply.text})
            if answer.refused:
                refused.append(answer.why)
            found.append(answer.value or Said(None, missing=_missing(answer)))
    if len(refused) == len(found):
        raise UserError(f"every question is {refused[0]}")
    return list(zip(found[::2], found[1::2], strict=True))


def _missing(answer: Answer[Said]) -> Missing | None:
    """Why there is no answer at all, where there is none."""
    return "refused" if answer.refused else "not asked" if answer.unasked else None


def _read_said(text: str) -> Said | None:
    """What an answer says; None where it cannot be read."""
    said = judge.read(text)
    return said if said.verdict else None


def _questions(path: Path, config: Config) -> Iterator[Question]:
    """The pairs of a file that are to be judged, in its order."""
    for number, row in enumerate(files.read_jsonl(path), start=1):
        place = f"{path}: row {number}"
        try:
            prompt, answers, tools = _read(row)
            for answer, _ in answers:
                protocol.check([*prompt, *answer])
        except UserError as error:
            raise UserError(f"{place}: {error}") from error
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{place}: a row has a `prompt` and `answers`, or `chosen` and `rejected`, as "
                f"texts or messages; here {type(error).__name__}: {error}"
            ) from error
        every = [
            Question(prompt, one, other, tools, str(row.get("kind") or ""), _label(first, second))
            for (one, first), (other, second) in combinations(answers, 2)
            if one != other
        ]
        yield from sorted(every, key=_place)[: config.pairs_per_prompt]


def _read(row: Row) -> tuple[Messages, list[tuple[Messages, float | None]], Sequence[Row]]:
    """Prompt, answers each with what is known of its worth, and tools of a row."""
    told: list[tuple[Messages, float | None]]
    if "chosen" in row:
        told = [(_spoken(row["chosen"]), 1.0), (_spoken(row["rejected"]), 0.0)]
    else:
        if not isinstance(row["answers"], list):
            raise TypeError("`answers` is no list")
        told = [_answer(one) for one in row["answers"]]
    prompt = row["prompt"]
    asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return asked, told, row.get("tools") or ()


def _answer(one: Any) -> tuple[Messages, float | None]:  # noqa: ANN401 - a text, messages or a row
    """An answer, and 1 or 0 where it was verified right or wrong."""
    if isinstance(one, Mapping):
        return _spoken(one["text"]), {"right": 1.0, "wrong": 0.0}.get(str(one.get("verdict")))
    return _spoken(one), None


def _spoken(answer: str | Messages) -> Messages:
    if not isinstance(answer, str):
        return answer
    return [pairs.message(answer) or {"role": "assistant", "content": answer}]


def _label(first: float | None, second: float | None) -> int | None:
    """Which of the two is known to be better."""
    if first is None or second is None or first == second:
        return None
    return int(second > first)


def _place(question: Question) -> str:
    """An order of a prompt's pairs that favours none of its answers."""
    content = json.dumps([question.first, question.second], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()


def _pair(question: Question, winner: int, source: str) -> dict[str, Any]:
    sides = (question.first, question.second)
    known = {"tools": question.tools, "kind": question.kind}
    return {
        "prompt": question.prompt,
        "chosen": sides[winner],
        "rejected": sides[1 - winner],
        **{name: value for name, value in known.items() if value},
        "source": source,
    }
