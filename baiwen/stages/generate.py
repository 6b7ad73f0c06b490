"""Synthetic documents, written by a model, proven, scored and without copies (report, section 3.1).

    stage = "generate"
    out = "runs/mine/generate"
    seeds = ["runs/mine/data"]
    topics = "topics.txt"

    [[prompts]]
    use = "textbook"
    count = 5_000

    [[prompts]]
    use = "problem-topic"
    count = 2_000

    [endpoint]                           # or [local]: a model of our own, asked in this process
    url = "http://127.0.0.1:8000/v1"

Reads documents as seeds, and topics. Writes, in its folder,

    documents-DOMAIN-00000.jsonl.zst    {"id", "text", "meta": {..., "lineage"}}: for `data`
    dropped-00000.jsonl.zst             {"id", "text", "meta", "verdict"}: every other reply
    data.json                           documents and bytes by domain, by reason, and a funnel
    generate.json                       by prompt: requests, documents, refusals; the bill

Every reply is kept as it comes: a run that was killed asks nothing twice, and ends in the same
documents. A shared `cache` folder lets other runs have them too.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache, partial
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from baiwen import dist, endpoint, files, log
from baiwen.config import Count, Input, Knobs
from baiwen.data import read
from baiwen.data.contamination.decontaminate import Decontaminate
from baiwen.data.document import Document
from baiwen.data.generate import drawing, forms, prompts, proof, sieve
from baiwen.data.generate.asking import Asking
from baiwen.data.generate.drafts import MODEL, Draft, digest
from baiwen.data.generate.forms import Format
from baiwen.data.generate.prompts import Prompt, Seed
from baiwen.data.generate.proof import Proof
from baiwen.data.generate.sieve import Near, Reward
from baiwen.data.generate.writing import Writing
from baiwen.endpoint import Bill, Endpoint, Messages
from baiwen.engine import asked, pretrained, score
from baiwen.engine.asked import Local
from baiwen.engine.capacity import longest
from baiwen.errors import UserError
from baiwen.model.reward import RewardModel
from baiwen.tokenizer.tokenizer import Tokenizer
from baiwen.verify import sandbox

STEPS = (MODEL, forms.STEP, proof.MATH, proof.CODE, sieve.REWARD, sieve.NEAR, sieve.CONTAMINATED)
MEASURED = 50  # seeds by whose length `plan` estimates
CHARACTERS = 4  # for a token of English, about


class Wanted(Knobs):
    """A prompt, and how many replies are asked for."""

    use: str  # one of ours (docs/stages/generate.md), or the path of a TOML file
    count: Count = 1_000  # seeds; where there are fewer, they take further turns; report: unknown
    samples: Count = 1  # replies for each seed; with a reward model the best of them stays


class Config(Knobs):
    """What is written, by whom, and what becomes a document."""

    free: ClassVar = endpoint.FREE
    out: Path  # the run folder
    seeds: tuple[Input, ...] = ()  # documents: files, or folders of a data stage
    topics: Input | None = None  # a text file, a topic a line
    prompts: Annotated[tuple[Wanted, ...], Field(min_length=1)]  # what the model is asked for
    # The model that writes; report: Qwen2-72B-Instruct, Qwen2-Math-72B-Instruct for mathematics.
    endpoint: Endpoint | None = None
    local: Local | None = None  # in its place: one of our own, in this process
    cache: Path | None = None  # folder of replies that runs share; none: the run keeps its own
    temperature: Annotated[float, Field(ge=0)] = 0.8  # not reported
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95  # not reported
    max_tokens: Count = 2048  # of a reply
    attempts: Count = 2  # times that it is asked until the reply can be read
    characters: Count = 6_000  # of a seed that are shown; not reported
    format: Format = Format()
    proof: Proof = Proof()
    reward: Reward | None = None  # a reward model; none: no document is scored
    near: Near = Near()
    decontaminate: Decontaminate | None = None  # evaluations that no document may hold
    seed: int = 0  # of every draw
    workers: Count = 2  # programs that are run at a time

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.endpoint is None) == (self.local is None):
            raise ValueError("give either [endpoint] or [local]: the model that writes")
        return self

    @property
    def source(self) -> Endpoint | Local:
        """The model that writes."""
        source = self.endpoint or self.local
        assert source is not None
        return source


def run(config: Config, folder: files.RunFolder) -> None:
    """Ask, filter, and write the documents."""
    if any(prompt.form == "exercise" for prompt in _prompts(config)):
        sandbox.best()  # UserError where none works, before anything is paid for
    bill = Bill.of(config.endpoint) if config.endpoint else Bill()
    state = folder.path / "state"
    with (
        files.Ledger((config.cache or state) / "replies.jsonl") as replies,
        files.Ledger(state / "judged.jsonl") as judged,
        asked.opened(config.source) as ask,
        Writing(folder.path, STEPS) as written,
    ):
        asking = Asking(ask, replies, config.source.concurrency, config.attempts, bill)
        drafts = _filtered(config, asking, judged)
        with endpoint.telling(replies):
            for draft in log.track(drafts, "generate", total=_requests(config), unit="replies"):
                written.put(draft)
        model = ask.name
    files.write_json(folder.path / "data.json", written.card())
    told = {"model": model, "prompts": written.prompts, "bill": bill.told()}
    files.write_json(folder.path / "generate.json", told)
    _report(written, bill, folder.path)


def check(config: Config, to_come: Sequence[Path]) -> None:
    """Stop where a prompt is not there, or there is nothing to fill it with."""
    for prompt in _prompts(config):
        absent = {
            "document": not config.seeds and "seeds",
            "topic": not config.topics and "topics",
        }
        for place in sorted(prompt.wants):
            if absent[place]:
                raise UserError(f"prompt {prompt.name}: has {{{place}}}, so give `{absent[place]}`")


def reads(config: Config) -> dict[str, list[Path]]:
    """The prompts that are files."""
    found = [path for wanted in config.prompts if (path := prompts.file(wanted.use))]
    return {"prompts": found} if found else {}


def plan(config: Config) -> dict[str, str | int]:
    """How much is asked, and what it may cost."""
    problems = sum(
        wanted.count * wanted.samples * config.proof.samples
        for wanted, prompt in zip(config.prompts, _prompts(config), strict=True)
        if prompt.form == "problem" and not prompt.truth
    )
    requests = _requests(config) + problems
    told: dict[str, str | int] = {"requests": f"{requests:,}, more where a reply cannot be read"}
    if not all(path.exists() for path in config.seeds):
        return told
    shown = _shown(config)
    lengths = [
        len(prompt.text) + (shown if "document" in prompt.wants else 0)
        for prompt in _prompts(config)
    ]
    counts = [wanted.count * wanted.samples for wanted in config.prompts]
    given = sum(length * count for length, count in zip(lengths, counts, strict=True))
    tokens_in = (given + problems * shown) // CHARACTERS
    tokens_out = requests * config.max_tokens
    told["tokens of prompts"] = f"{tokens_in:,} about"
    told["tokens of replies"] = f"{tokens_out:,} at most"
    if config.endpoint and (config.endpoint.price_in or config.endpoint.price_out):
        bill = Bill.of(config.endpoint)
        bill.prompt_tokens, bill.completion_tokens = tokens_in, tokens_out
        most = "" if bill.most is None else f"; nothing is asked beyond {bill.most:,.2f}"
        told["cost"] = f"{bill.cost:,.2f} at most{most}"
    return told


def _filtered(config: Config, asking: Asking, judged: files.Ledger) -> Iterator[Draft]:
    """Every reply after all steps, in order: the pipeline."""
    replies = chain.from_iterable(
        _drafts(config, asking, wanted, prompt)
        for wanted, prompt in zip(config.prompts, _prompts(config), strict=True)
    )
    drafts = forms.formed(replies, config.format)
    drafts = proof.known(drafts)
    if config.proof.samples:
        drafts = proof.agreed(drafts, asking.solutions, config.proof)
    drafts = proof.tested(drafts, judged, config.workers)
    if config.reward:
        drafts = sieve.rewarded(drafts, _score(config.reward, judged), config.reward)
    drafts = sieve.distinct(drafts, config.near)
    if config.decontaminate:
        tests = files.fingerprint(config.decontaminate.against)
        drafts = sieve.uncontaminated(drafts, config.decontaminate, str(tests))
    return drafts


def _drafts(config: Config, asking: Asking, wanted: Wanted, prompt: Prompt) -> Iterator[Draft]:
    """The replies to one prompt."""
    topics = _topics(config)

    def seeds() -> Iterator[Seed]:
        return drawing.seeds(
            partial(_documents, config),
            topics,
            prompt,
            wanted.count,
            config.seed,
            config.characters,
        )

    sampling = {
        "temperature": config.temperature,
        "top_p": config.top_p,
        "max_tokens": config.max_tokens,
    }
    every = drawing.rounds(seeds, wanted.count)
    return asking.drafts(prompt, every, sampling, wanted.samples, config.seed)


def _prompts(config: Config) -> list[Prompt]:
    """The prompts; UserError where two have one name, and so would be asked the same."""
    found = [prompts.find(wanted.use) for wanted in config.prompts]
    for name, count in Counter(prompt.name for prompt in found).items():
        if count > 1:
            raise UserError(f"prompts: {count} have the name {name!r}; raise its `count` instead")
    return found


def _requests(config: Config) -> int:
    return sum(wanted.count * wanted.samples for wanted in config.prompts)


def _documents(config: Config) -> Iterator[Document]:
    """The documents of all seeds."""
    return read.documents(read.find(config.seeds))


def _topics(config: Config) -> list[str]:
    """The lines of the topics' file that are not blank, each once."""
    lines = files.read_text(config.topics).splitlines() if config.topics else []
    return list(dict.fromkeys(line.strip() for line in lines if line.strip()))


def _shown(config: Config) -> int:
    """Characters of a seed that are shown, by the first of them."""
    if not config.seeds:
        return 0
    sizes = [min(len(one.text), config.characters) for one in islice(_documents(config), MEASURED)]
    return sum(sizes) // max(len(sizes), 1)


def _score(knobs: Reward, judged: files.Ledger) -> sieve.Score:
    """What the reward model thinks of conversations; a batch that it has seen is not read again."""
    content = files.fingerprint([knobs.model])

    @cache
    def loaded() -> tuple[RewardModel, Tokenizer]:
        with dist.session(knobs.device, knobs.dtype) as world:
            return pretrained.load_reward(knobs.model, world.device, world.dtype)

    def scores(talks: Sequence[Messages]) -> Sequence[float | None]:
        name = digest(json.dumps([content, talks], ensure_ascii=False))
        row = judged.get(name)
        return (row or judged.add(name, {"rewards": _rewards(*loaded(), talks)}))["rewards"]

    return scores


def _rewards(
    model: RewardModel, tokenizer: Tokenizer, talks: Sequence[Messages]
) -> list[float | None]:
    """The reward of each conversation; None where it is too long for the model."""
    every = [tokenizer.render(talk).ids for talk in talks]
    fit = [ids for ids in every if len(ids) <= longest(model.config)]
    rewards = score.score(model, tokenizer, fit).tolist()
    if not all(map(math.isfinite, rewards)):
        raise UserError(f"the reward model gives {rewards}: check [reward] model")
    found = iter(rewards)
    return [next(found) if len(ids) <= longest(model.config) else None for ids in every]


def _report(written: Writing, bill: Bill, out: Path) -> None:
    documents = sum(tally.documents for tally in written.kept.values())
    refused = Counter({f"{s}: {r}": tally.documents for (s, r), tally in written.refused.items()})
    reasons = ", ".join(f"{reason} {number:,}" for reason, number in refused.most_common(5))
    log.say(f"{documents:,} documents, {refused.total():,} refused ({reasons or 'none'})")
    log.say(bill.line())
    if not documents:
        raise UserError(
            f"not one reply became a document ({reasons}): see dropped-00000.jsonl.zst in {out}. "
            "Loosen what refuses them, change the prompt, or ask a stronger model, in another "
            f"`out`: with cache = {str(out / 'state')!r} no reply is asked for again."
        )
