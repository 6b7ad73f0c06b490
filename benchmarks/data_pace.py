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
    path = bench.file(1500)
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
            name: agreement(told[OURS][name], told[DATATROVE][name], len(bench.pages(1500)))
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
    planted.make(folder, bench.pages(5000), random.Random(0))
    settings = {"documents": str(folder)}
    players = {
        OURS: Player("data_duplicates", settings),
        DAFT: Player("data_duplicates_daft", settings, "daft"),
        DATATROVE: Player("data_duplicates_datatrove", settings, DATATROVE),
    }
    rows = in_turns(bench, players, once=[DATATROVE])
    found = {name: planted.judge(folder, turns[-1]["removed"]) for name, turns in rows.items()}
    ours, others = found[OURS], [name for name in found if name != OURS]

    def beside(key: str) -> str:
        return ", ".join(f"{name} {found[name][key]:.1%}" for name in others)

    claims = [
        pace("exact + MinHash, pairs verified at 0.8", 5000, rows),
        Claim(
            "planted near duplicates found",
            ">= 98 %",
            f"{ours['near']:.1%}",
            beside("near"),
            ours["near"] >= 0.98,
        ),
        Claim(
            "removals that are false",
            "<= 1 %",
            f"{ours['false']:.1%}",
            beside("false"),
            ours["false"] <= 0.01,
        ),
    ]
    keys = ("exact", "near", "decoys", "false")
    lines = [[name, one["removed"], *(f"{one[key]:.1%}" for key in keys)] for name, one in
             found.items()]  # fmt: skip
    head = ["side", "removed", "planted exact found", "planted near found", "decoys removed"]
    return Row(claims, [*table(rows), "", *page.table([*head, "false"], lines)])


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
    said = (
        f"Each turn has documents of its own. Tokens of the last: {counts} (Daft's have no end of "
        "a document)."
    )
    return Row([pace("tokenize to shards", 3_000_000, rows, "tokens")],
               [*table(rows, "tokens"), "", said])  # fmt: skip


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
    shares = {
        kind: {which: hit / max(of, 1) for which, (hit, of) in found.items()}
        for kind, found in last["planted"].items()
    }
    false = len(last["dropped"]) / last["documents"]
    claims = [pace("decontamination", 3500, rows)]
    for kind, least, told in (("exact", 1.0, "100 %"), ("edited", 0.95, ">= 95 %")):
        share = shares[kind]["long"]
        short = f"of all, short ones too: {shares[kind]['all']:.1%}"
        what = f"planted tests found, {'10 % of words ' if kind == 'edited' else ''}{kind}"
        claims.append(Claim(what, told, f"{share:.1%}", short, share >= least))
    claims.append(Claim("real documents dropped", "<= 0.1 %", f"{false:.2%}", "", false <= 0.001))
    listed = [f"* dropped: {one['test'].rpartition('/')[2]}: {one['common'][:120]!r}" for one in
              last["dropped"][:5]]  # fmt: skip
    long = "Found of planted tests: of those with 13 words, without which the rule finds none."
    return Row(claims, [*table(rows), "", long, *listed])
