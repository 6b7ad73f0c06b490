"""`baiwen data explain ID [RUN ...]`, `baiwen data funnel RUN`: what a data run did, and why.

explain tells a document's whole life: where it came from, what each step found, where it went. The
beginning of an id is enough where no other begins so. Without RUN all data runs below runs/ are
looked through.
"""

import argparse
import json
from itertools import islice
from pathlib import Path

from baiwen import files
from baiwen.data.pipeline import explain
from baiwen.data.pipeline.run import STEPS
from baiwen.data.pipeline.sidecar import PARTS
from baiwen.errors import UserError

RUNS = Path("runs")
SHOWN = 5  # ids that a message names


def main(options: argparse.Namespace) -> None:
    """Print what was asked for."""
    if options.what == "funnel":
        if len(options.names) != 1:
            raise UserError("give the folder of one run: baiwen data funnel runs/tiny/data")
        _funnel(Path(options.names[0]), options.json)
    else:
        name, *runs = options.names
        _explain(name, [Path(run) for run in runs] or _all(), options.json)


def _explain(name: str, folders: list[Path], as_json: bool) -> None:
    runs = [explain.opened(folder) for folder in folders]
    found = [(run, *place) for run in runs for place in explain.places(run, name)]
    exact = [one for one in found if one[1] == name]
    others = sorted({one[1] for one in found})
    if not found:
        raise UserError(_unknown(name, runs, folders))
    if not exact and len(others) > 1:
        listed = ", ".join(others[:SHOWN]) + (", ..." if len(others) > SHOWN else "")
        raise UserError(f"{len(others)} ids begin with {name}: {listed}. Give more of it.")
    for run, _, part, row in exact or found:
        life = explain.life(run, part, row)
        print(json.dumps(life, ensure_ascii=False) if as_json else explain.told(life))


def _unknown(name: str, runs: list[explain.Opened], folders: list[Path]) -> str:
    """That there is no such id, and those that begin most like it."""
    for end in range(len(name) - 1, 0, -1):
        like = {one[0] for run in runs for one in islice(explain.places(run, name[:end]), SHOWN)}
        if like:
            nearest = f" Nearest: {', '.join(sorted(like)[:SHOWN])}."
            break
    else:
        nearest = ""
    return f"no document of {', '.join(map(str, folders))} has the id {name}.{nearest}"


def _all() -> list[Path]:
    found = sorted(path.parent.parent for path in RUNS.glob(f"**/{PARTS}/{STEPS}"))
    done = [folder for folder in found if (folder / "data.json").is_file()]
    if not done:
        raise UserError(
            f"below {RUNS}/ there is no finished data run: name one, as in {RUNS}/web/data"
        )
    return done


def _funnel(run: Path, as_json: bool) -> None:
    explain.opened(run)
    card = files.read_json(run / "data.json")
    if as_json:
        print(json.dumps(card["funnel"]))
        return
    print(f"{'step':<14}{'in':>12}{'out':>12}{'stay':>9}{'MB in':>10}{'MB out':>10}  dropped")
    for row in card["funnel"]:
        share = f"{100 * row['out'] / max(row['in'], 1):.1f} %"
        rules = card["dropped"].get(row["step"], {})
        told = ", ".join(f"{rule} {tally['documents']:,}" for rule, tally in rules.items())
        sizes = "".join(f"{row[side] / 1e6:>10.1f}" for side in ("bytes_in", "bytes_out"))
        print(
            f"{row['step']:<14}{row['in']:>12,}{row['out']:>12,}{share:>9}{sizes}  {told}".rstrip()
        )
