"""The search of a recall: what the rounds so far have found, and the next one.

    search = Search(knobs, corpus, seeds, labels, estimate, judge)
    scores, least = search.scores(home, state)             # home: the round's folder
    search.decide(scores, least, home)                     # writes found.parquet and round.json
    search.add(home)                                       # and so on

A round finds in two ways. By score: from the best on, in bands that grow, as long as a band is
precise on the sample that the judge sees of it, or else on its documents with labels (of one that
is not, halves are tried); where neither measures it, as far as its scores pass the spies' bar. By
source: all of those of which enough was found, if they are precise. What the judge calls wrong is
learned as such; labels only measure.

What looks most like the kind, but was not found, is not learned as anything else: hidden documents
among the others teach a classifier to miss them (measured: docs/stages/recall.md).
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, field_validator

from baiwen import files, log
from baiwen.config import Count, Knobs
from baiwen.data.classifier.model import ABOUT, Classifier
from baiwen.data.classifier.training import Training
from baiwen.data.executor import cores, ordered
from baiwen.data.recall.choice import bar, doubtful, ranked, sample, walk, widened
from baiwen.data.recall.corpus import Corpus, key
from baiwen.data.recall.learning import OTHER, Scoring, learn, odds, score

Share = Annotated[float, Field(gt=0, le=1)]
Judge = Callable[[Sequence[str]], list[bool | None]]  # texts: whether each is of the kind
Estimate = Callable[[int, int], dict[str, Any]]  # so many of so many: `value`, and what it is worth

WAYS = ("score", "source")  # how a document is found
FOUND, TOLD = "found.parquet", "round.json"  # of a round; the latter comes last
NOTHING = -1  # of a document: no way, no label, no answer
FIRST = 50  # documents of the first band
MEASURED = 20  # documents of a band: at least, and from which on their precision counts
OTHERS = 4  # one of so many documents is taken for no example: most that are hidden stay unseen


class Rounds(Knobs):
    """What a search looks for, and how sure it wants to be."""

    name: Annotated[str, Field(pattern=r"^[a-z]\w*$")]  # `meta.domain` of what is found
    rounds: Count = 4  # at most; report (Math): several; DeepSeekMath: 4
    examples: Count = 50_000  # of each side, to teach; not reported; DeepSeekMath: 500,000
    spies: Share = 0.9  # of the held-out seeds that a bar lets pass; not reported
    most: Share = 0.2  # of the corpus that a round may find by score; not reported
    doubtful: Share = 0.05  # of the last scores: the best that are never taught as others
    # Of a source that has to be found, for all of it. DeepSeekMath: 0.1, then chosen by hand.
    source_share: Share = 0.25
    source_least: Count = 5  # documents of a source that is widened; not reported
    judged: Count = 100  # documents of each band that the judge looks at; not reported
    # Share of a band that has to be of the kind, or none of it is taken; not reported.
    precision: Annotated[float, Field(ge=0, le=1)] = 0.8
    # Of all that is found: where a round finds fewer, it is the last; not reported.
    fresh: Annotated[float, Field(ge=0)] = 0.02
    workers: Annotated[int, Field(ge=0)] = 0  # processes; 0: one a core

    @field_validator("name")
    @classmethod
    def _is_no_other(cls, name: str) -> str:
        if name == OTHER:
            raise ValueError(f"{OTHER} is what all else is called")
        return name


class Seeds(NamedTuple):
    """Texts of the kind that is looked for."""

    taught: list[str]
    spies: list[str]  # whose scores set the bar


class Search:
    """What the rounds so far have found of the corpus, and the next one."""

    def __init__(
        self,
        config: Rounds,
        corpus: Corpus,
        seeds: Seeds,
        labels: np.ndarray,
        estimate: Estimate,
        judge: Judge | None,
    ) -> None:
        """labels: int8 [documents], 1 of the kind, 0 not, NOTHING unknown.

        Documents of the corpus that are seeds are found as any, but measure nothing.
        """
        self.config, self.corpus, self.seeds = config, corpus, seeds
        texts = np.array([key(text) for text in (*seeds.taught, *seeds.spies)], np.uint64)
        self.known = np.isin(corpus.contents, texts)
        self.labels = np.where(self.known, np.int8(NOTHING), labels)
        self.estimate, self.judge = estimate, judge
        self.round = np.zeros(len(corpus), np.int16)  # in which it was taken; 0: in none
        self.way = np.zeros(len(corpus), np.int8)  # a place in WAYS
        self.score = np.zeros(len(corpus), np.float32)  # by the classifier of that round
        self.wrong = np.zeros(len(corpus), bool)  # the judge has said so

    def add(self, home: Path) -> None:
        """Take over what a round has written into its folder."""
        table = pq.read_table(home / FOUND)
        place, way, score = (table[name].to_numpy() for name in ("place", "way", "score"))
        self.wrong[place[table["wrong"].to_numpy()]] = True
        taken = way != NOTHING
        self.round[place[taken]] = int(home.name)
        self.way[place[taken]], self.score[place[taken]] = way[taken], score[taken]

    def scores(self, home: Path, state: Path) -> tuple[np.ndarray, float]:
        """Every document's score by this round's classifier, and the bar that the spies set."""
        folder, number = home / "classifier", int(home.name)
        if not (folder / ABOUT).is_file():
            self._learn(folder, number, state)
        parts, paths = self.corpus.parts, self._paths(state, number)
        work = [Scoring(part, folder, path) for part, path in zip(parts, paths, strict=True)]
        done = ordered(score, work, min(self.config.workers or cores(), len(work)))
        for _ in log.track(done, "score", total=len(work), unit="parts"):
            pass
        spies = odds(Classifier.load(folder), pa.array(self.seeds.spies, pa.large_string()))
        return self._scored(state, number), bar(spies, self.config.spies)

    def _paths(self, state: Path, number: int) -> list[Path]:
        return [state / f"scores-{number}" / f"{part.stem}.bin" for part in self.corpus.parts]

    def _scored(self, state: Path, number: int) -> np.ndarray:
        return np.concatenate([np.fromfile(path, "<f4") for path in self._paths(state, number)])

    def _learn(self, folder: Path, number: int, state: Path) -> None:
        """Teach what was found against a sample of what is neither found nor doubtful."""
        most, found = self.config.examples, self.round > 0
        among = ~found & ~self.wrong & ~self.known
        if number > 1:
            last = np.where(among, self._scored(state, number - 1), -np.inf)
            among &= ~doubtful(last, self.config.doubtful)
        examples = [*self.seeds.taught, *self._texts(found, most, number)]
        wrong = self._texts(self.wrong, most, number)
        others = [*wrong, *self._texts(among, min(most, len(found) // OTHERS), number)]
        log.say(f"round {number}: learns {len(examples):,} examples, {len(others):,} others")
        told = {"examples": len(examples), "others": len(others)}
        learn(self.config.name, examples, others, Training(seed=number)).save(folder, told)

    def _texts(self, among: np.ndarray, count: int, salt: int) -> list[str]:
        places = sample(self.corpus.keys, among, count, salt)
        return list(self.corpus.rows(places, ["text"])["text"].to_pylist())

    def decide(self, scores: np.ndarray, least: float, home: Path) -> None:
        """Take what is found by score, band by band, then by source, and write it."""
        config, free = self.config, (self.round == 0) & ~self.wrong
        way, judged = np.full((2, len(free)), NOTHING, np.int8)
        told: dict[str, list[dict[str, Any]]] = {name: [] for name in WAYS}

        def good(name: str, places: np.ndarray) -> bool:
            passes = (scores[places] >= least) | (name == "source")
            row, said = self._weigh(places, passes)
            told[name].append(row)
            judged[places] = np.where(said == NOTHING, judged[places], said)
            way[places[passes & (judged[places] != 0)]] = WAYS.index(name)
            return bool(row["precise"])

        most = math.ceil(config.most * len(free))
        order = ranked(np.where(free, scores, -np.inf), most)
        walk(order, FIRST, MEASURED, partial(good, "score"))
        held = (self.round > 0) | (way != NOTHING)
        wide = widened(self.corpus.source, held, config.source_share, config.source_least)
        good("source", np.flatnonzero(wide & free & (way == NOTHING) & (judged != 0)))
        self._write(way, judged, scores, home)
        self._tell(way != NOTHING, {"bar": least, "ways": told}, home)

    def _write(self, way: np.ndarray, judged: np.ndarray, scores: np.ndarray, home: Path) -> None:
        """What was taken, and what the judge calls wrong."""
        places = np.flatnonzero((way != NOTHING) | (judged == 0))
        columns = {
            "place": pa.array(places, pa.int64()),
            "id": self.corpus.rows(places, ["id"])["id"],
            "way": pa.array(way[places], pa.int8()),
            "score": pa.array(scores[places], pa.float32()),
            "wrong": pa.array(judged[places] == 0),
        }
        with files.writing(home / FOUND) as file:
            pq.write_table(pa.table(columns), file)

    def _tell(self, taken: np.ndarray, told: dict[str, Any], home: Path) -> None:
        """The figures of the round, bool [documents] being what it took; written last."""
        held, number = taken | (self.round > 0), int(home.name)
        row = {
            "round": number,
            "fresh": int(taken.sum()),
            "found": int(held.sum()),
            "precision": self._share(self.labels == 1, held & (self.labels != NOTHING)),
            "recall": self._share(held, self.labels == 1),
            "end": self._end(number, int(taken.sum()), int(held.sum())),
        }
        files.write_json(home / TOLD, row | told)

    def _end(self, number: int, fresh: int, found: int) -> str | None:
        """Why there is no further round; None where there is one."""
        if found == len(self.corpus):
            return "all documents are found"
        if fresh <= self.config.fresh * found:
            return "nothing new is precise enough"
        return "rounds" if number == self.config.rounds else None

    def _weigh(self, places: np.ndarray, passes: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
        """How precise the documents at `places` are, and what the judge says of each: int8 [n].

        passes: bool [n], what is taken where nothing measures them; as it is decided on return.
        """
        labels, said = self.labels[places], self._judged(places)
        row: dict[str, Any] = {
            "documents": len(places),
            "bytes": int(self.corpus.bytes[places].sum()),
            "judged": self._share(said == 1, said != NOTHING),
            "labelled": self._share(labels == 1, labels != NOTHING),
        }
        measured = row["judged"] or row["labelled"]
        if measured and measured["n"] >= min(MEASURED, len(places)):
            passes[:] = measured["value"] >= self.config.precision
        return row | {"precise": bool(passes.all())}, said

    def _judged(self, places: np.ndarray) -> np.ndarray:
        """What the judge says of a sample of the documents at `places`: 1, 0 or NOTHING. int8."""
        said = np.full(len(places), NOTHING, np.int8)
        if self.judge is None:
            return said
        asked = sample(self.corpus.keys[places], ~self.known[places], self.config.judged)
        asked = asked[np.argsort(places[asked])]
        if not len(asked):
            return said
        texts = self.corpus.rows(places[asked], ["text"])["text"].to_pylist()
        answers = self.judge(texts)
        said[asked] = [NOTHING if answer is None else answer for answer in answers]
        return said

    def _share(self, right: np.ndarray, among: np.ndarray) -> dict[str, Any] | None:
        """The share of bool [n] within bool [n]; None of nothing."""
        count = int(among.sum())
        return self.estimate(int((right & among).sum()), count) if count else None

    def documents(self, places: np.ndarray) -> Iterator[dict[str, Any]]:
        """The documents at `places`, rising; those that were found say how in `meta.recall`."""
        for place, row in zip(places.tolist(), self.corpus.rows(places).to_pylist(), strict=True):
            meta = json.loads(row["meta"])
            if number := int(self.round[place]):
                way, scored = WAYS[self.way[place]], float(self.score[place])
                how = {"round": number, "way": way, "score": scored}
                meta |= {"domain": self.config.name, "recall": how}
            yield {"id": row["id"], "text": row["text"], "meta": meta}
