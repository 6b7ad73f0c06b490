"""laws.json: what a table of runs told, for the stages and commands that use it.

    laws = fit("runs.csv")                      # a table in Step Law's columns (grid.py)
    write("laws.json", laws)
    read("laws.json").hyper.lr.predict(parameters=1.5e9, tokens=3e10)

Its keys are the fields of `Laws`, and those of the laws in it:

    told      the laws in words, for the eye; nothing reads them
    table     SHA-256 of the file of runs; runs, cells   how many it has
    hyper     lr, batch: variables; weights: the logarithm of the factor, then an exponent of each
              variable; draws: the same of resampled runs; ranges; and runs near the best, share
    loss      of dense runs: weights: log E, log A, log B, alpha, beta; draws; residuals; ranges;
              huber; or null
    moe       of all runs, where experts are among them: weights: the same and alpha kappa (moe.py)
    missing   for each law that the runs cannot tell, why

N is without embeddings, of a mixture of experts the active ones; D and batches are in tokens,
losses in nats a token. No date and no path is in it: the same table gives the same bytes.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from baiwen import files
from baiwen.errors import UserError
from baiwen.files.manifest import sha256
from baiwen.scaling import grid, hyper, loss, moe
from baiwen.scaling.hyper import HyperLaws, Power
from baiwen.scaling.loss import LossLaw
from baiwen.scaling.moe import MoeLaw


@dataclass(frozen=True)
class Laws:
    """What the runs of one table told."""

    table: str  # SHA-256 of its file
    runs: int  # in it
    cells: int  # pairs of N and D among them
    hyper: HyperLaws
    loss: LossLaw | None
    moe: MoeLaw | None
    missing: Mapping[str, str]  # of each law that is None, why


def fit(table: Path | str, share: float = 0.0025, draws: int = 1000, seed: int = 0) -> Laws:
    """The laws of the runs of a CSV file, with `draws` resampled fits of each for intervals.

    The loss laws are of the best run of each cell. UserError where the file or a run is unusable,
    or the runs cannot tell learning rate and batch; a loss law that they cannot tell is `missing`,
    that of mixtures where there are any.
    """
    if draws < 1:
        raise UserError(f"draws = {draws}: intervals need resampled fits, 1,000 for steady ones")
    runs = grid.read(table)
    cells = list(grid.cells(runs))
    best = runs[np.array([own[runs.loss[own].argmin()] for own in cells])]
    settings, losses, mixtures = hyper.fit(runs, share, draws, seed), None, None
    missing = {}
    try:
        plain = best[best.ratio == 1]
        losses = loss.fit(plain.parameters, plain.tokens, plain.loss, draws, seed)
    except UserError as error:
        missing["loss"] = str(error)
    try:
        if best.total is not None and (best.ratio > 1).any():
            mixtures = moe.fit(best.parameters, best.total, best.tokens, best.loss, draws, seed)
    except UserError as error:
        missing["moe"] = str(error)
    digest = sha256(Path(table))
    return Laws(digest, len(runs), len(cells), settings, losses, mixtures, missing)


def told(laws: Laws) -> Iterator[str]:
    """The laws as formulas, a line each."""
    yield f"peak lr = {laws.hyper.lr}"
    yield f"tokens a step = {laws.hyper.batch}"
    if laws.loss is not None:
        yield f"loss = {laws.loss}"
    if laws.moe is not None:
        yield f"loss of mixtures of experts = {laws.moe}"


def write(path: Path | str, laws: Laws) -> None:
    """Write the file durably; what is no table of keys stands on one line."""
    plain = {"told": list(told(laws)), **_FILE.dump_python(laws, mode="json")}
    files.write(path, _text(plain) + "\n")


def read(path: Path | str) -> Laws:
    """The laws of a file; a UserError that names what in it is not as it must be."""
    try:
        laws = _FILE.validate_json(json.dumps(files.read_json(path)), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(
            f"{path}: this is no laws.json: {where}: {first['msg']}. Stage `scaling` and `baiwen "
            "scaling fit TABLE --out laws.json` write one."
        ) from error
    one, other = laws.hyper.lr, laws.hyper.batch
    for name, law, many in (
        ("lr", one, 1 + len(one.variables)),
        ("batch", other, 1 + len(other.variables)),
        ("loss", laws.loss, 5),
        ("moe", laws.moe, 6),
    ):
        if law is not None and not _whole(law, many):
            raise UserError(f"{path}: {name}: weights, draws and residuals are not of one law")
    return laws


def _whole(law: Power | LossLaw | MoeLaw, many: int) -> bool:
    """Whether a law has `many` weights, draws of as many, and more residuals than those."""
    if not isinstance(law, Power) and (law.residuals is None or len(law.residuals) <= many):
        return False
    return law.draws is not None and law.draws.shape[1:] == law.weights.shape == (many,)


_FILE = TypeAdapter(Laws)


def _text(value: object, indent: str = "") -> str:
    if not isinstance(value, dict) or not value:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    inner = indent + "  "
    lines = [f"{inner}{json.dumps(key)}: {_text(item, inner)}" for key, item in value.items()]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
