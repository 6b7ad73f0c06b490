"""Rows of `benchmarks/data.py`: how fast documents are filtered, scored, compared and tokenized.

heuristics(bench)    Gopher's and C4's rules beside datatrove's filters, and what both decide
duplicates(bench)    exact and near ones beside datatrove's four stages and Daft's data frames
classifier(bench)    six dimensions and twenty domains in a pass beside fastText with one head
tokens(bench)        documents to shards beside datatrove's `DocumentTokenizer` and Daft
contamination(bench) tests sought in documents, and found where they were planted
"""

import random
from collections.abc import Mapping
from pathlib import Path

from baiwen.tokenizer import train
from benchmarks import page, planted
from benchmarks.data_pages import OURS, Bench, Claim, Player, Row, in_turns, pace, side, table
from benchmarks.sides.data_heuristics import agreement
from benchmarks.turns import Figures

DATATROVE, DAFT = "datatrove", "daft"
FILTERS = ("gopher quality", "gopher repetition", "c4")
TOKENIZER = "tokenizer/qwen2.5"  # in the shared data
AGAINST = {  # evaluations of the shared data, and the field that is asked
    "eval/gsm8k/test_devhalf.jsonl.gz": "question",
    "eval/math/test_dev.jsonl.gz": "problem",
    "eval/mmlu/test_dev.jsonl.gz": "question",
    "eval/math_more/cmath_dev.jsonl.gz": "question",
}


def heuristics(bench: Bench) -> Row:
    """Pace of all filters in turn, then each filter's decisions."""
    path = bench.file(1000)
    settings = {"documents": str(path), "filters": ["all"]}
    players = {
        OURS: Player("data_heuristics", settings),
        DATATROVE: Player("data_heuristics_datatrove", settings, DATATROVE),
    }
    rows = in_turns(bench, players, once=[DATATROVE])
    claims = [pace("Gopher + C4 + repetition", 2500, rows)]
    body = table(rows)
    if DATATROVE in rows:
        told = {name: decisions(bench, path, player) for name, player in players.items()}
        found = {
            name: agreement(told[OURS][name], told[DATATROVE][name], len(bench.pages(1000)))
            for name in FILTERS
        }
        shares = ", ".join(f"{name} {one['agree']:.1%}" for name, one in found.items())
        claims.append(Claim("the same filters' decisions", "datatrove's", shares, "listed below"))
        body += ["", *differences(found)]
    return Row(claims, body)


def decisions(bench: Bench, path: Path, player: Player) -> dict[str, dict[str, str]]:
    """Which documents each filter drops by itself, and why."""
    settings = {"documents": str(path), "filters": list(FILTERS)}
    with side(bench, Player(player.module, settings, player.package)) as judge:
        return dict(judge.step()["dropped"])


def differences(found: Mapping[str, Figures]) -> list[str]:
    """Each filter's agreement, and the reasons of those that only one of the two drops."""
    lines = [
        [
            name,
            one["kept"],
            one["dropped"],
            f"{one['agree']:.2%}",
            *(reasons(one[who]) for who in ("only ours", "only theirs")),
        ]
        for name, one in found.items()
    ]
    head = ["filter", "both keep", "both drop", "agree", "only ours drops", "only datatrove drops"]
    why = "Why they differ: docs/data/filters.md, Beside datatrove."
    return [*page.table(head, lines), "", why]


def reasons(counts: Mapping[str, int]) -> str:
    """How many for which reason."""
    return ", ".join(f"{reason}: {count}" for reason, count in counts.items()) or "0"


def duplicates(bench: Bench) -> Row:
    """Planted copies sought, and what was removed judged by brute force."""
    folder = bench.folder / "planted"
    planted.make(folder, bench.pages(4500), random.Random(0))
    settings = {"documents": str(folder)}
    players = {
        OURS: Player("data_duplicates", settings),
        DAFT: Player("data_duplicates_daft", settings, "daft"),
        DATATROVE: Player("data_duplicates_datatrove", settings, DATATROVE),
    }
    rows = in_turns(bench, players, once=[DATATROVE])
    found = {name: planted.judge(folder, turns[-1]["removed"]) for name, turns in rows.items()}
    near, false = found[OURS]["near"], found[OURS]["false"]
    claims = [
        pace("exact + MinHash, pairs verified at 0.8", 5000, rows),
        Claim(
            "planted near duplicates found",
            ">= 98 %",
            f"{near:.1%}",
            beside(found, "near"),
            near >= 0.98,
        ),
        Claim(
            "removals that are false",
            "<= 1 %",
            f"{false:.1%}",
            beside(found, "false"),
            false <= 0.01,
        ),
    ]
    head = ["side", "removed", "exact found", "near found", "decoys removed", "false removals"]
    keys = ("exact", "near", "decoys", "false")
    lines = [
        [name, one["removed"], *(f"{one[key]:.1%}" for key in keys)] for name, one in found.items()
    ]
    return Row(claims, [*table(rows), "", *page.table(head, lines)])


def beside(found: Mapping[str, Figures], key: str) -> str:
    """A share of each peer."""
    return ", ".join(f"{name} {one[key]:.1%}" for name, one in found.items() if name != OURS)


def classifier(bench: Bench) -> Row:
    """All heads in a pass."""
    settings = {"documents": str(bench.file(2500))}
    fast = "data_classifier_fasttext"
    package = "fasttext-numpy2-wheel"
    rows = in_turns(
        bench,
        {
            OURS: Player("data_classifier", settings),
            "fastText, 2,000 characters": Player(
                fast, settings | {"way": "fasttext", "characters": 2000}, package
            ),
            "fastText": Player(fast, settings | {"way": "fasttext", "characters": None}, package),
            DATATROVE: Player(fast, settings | {"way": DATATROVE, "characters": None}, DATATROVE),
        },
    )
    said = "Ours: six dimensions and twenty domains; the others: one head of twenty labels."
    return Row([pace("classifier, 7 heads in a pass", 8000, rows)], [*table(rows), "", said])


def tokens(bench: Bench) -> Row:
    """Documents to shards."""
    paths = bench.files(6000, bench.rounds + 1)  # one is for the turn that does not count
    settings = {"documents": list(map(str, paths)), "tokenizer": str(tokenizer(bench))}
    rows = in_turns(
        bench,
        {
            OURS: Player("data_tokens", settings),
            DATATROVE: Player("data_tokens_datatrove", settings, DATATROVE),
            DAFT: Player("data_tokens_daft", settings, "daft"),
        },
    )
    counts = ", ".join(f"{name} {found[-1]['tokens']:,}" for name, found in rows.items())
    claim = pace("tokenize to shards", 3_000_000, rows, "tokens")
    said = f"Each turn has other documents. Tokens of the last: {counts}; Daft ends no document."
    return Row([claim], [*table(rows, "tokens"), "", said])


def tokenizer(bench: Bench) -> Path:
    """The report's tokenizer, or one of the pages where that is not there."""
    if bench.shared:
        return bench.shared / TOKENIZER
    made = bench.folder / "tokenizer"
    train(iter(bench.pages(2500)), 16_000).save(made)
    return made


def contamination(bench: Bench) -> Row:
    """Tests sought in real documents, and in some where they were planted."""
    if not bench.shared:
        return Row([], ["Skipped: the evaluations are in the shared data, which is not there."])
    against = {str(bench.shared / name): field for name, field in AGAINST.items()}
    settings = {
        "documents": str(bench.file(3000)),
        "against": against,
        "planted": bench.size(1000),
    }
    rows = in_turns(bench, {OURS: Player("data_contamination", settings)})
    last = rows[OURS][-1]
    false = len(last["dropped"]) / last["documents"]
    claims = [
        pace("decontamination", 3500, rows),
        planted_tests("planted tests found", "100 %", last["planted"]["exact"], 1.0),
        planted_tests("the same, 10 % of words edited", ">= 95 %", last["planted"]["edited"], 0.95),
        Claim("real documents dropped", "<= 0.1 %", f"{false:.2%}", "", false <= 0.001),
    ]
    dropped = [
        f"* dropped for {one['test'].rpartition('/')[2]}: {one['common'][:120]!r}"
        for one in last["dropped"][:5]
    ]
    said = "Of planted tests those count that have 13 words, the report's least."
    return Row(claims, [*table(rows), "", said, *dropped])


def planted_tests(what: str, target: str, found: Mapping[str, list[int]], least: float) -> Claim:
    """The claim that so many of the long tests are found; of all beside it."""
    share, of_all = (found[which][0] / max(found[which][1], 1) for which in ("long", "all"))
    return Claim(what, target, f"{share:.1%}", f"short ones too {of_all:.1%}", share >= least)
