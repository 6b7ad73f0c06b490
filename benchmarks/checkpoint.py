"""How long the step loop waits for a checkpoint, and what the steps beside its writing cost.

    python -m benchmarks.checkpoint                        # 494M weights, a state of 5.9 GB
    python -m benchmarks.checkpoint --layers 2 --vocabulary 30000 --rounds 3

The state is that of a training run: fp32 weights of Qwen2.5-0.5B's shape and AdamW's two moments.
Steps are real ones, forward, backward and update, over `--tokens` tokens: a sixteenth of what a
stage computes at once by default, so that the copy has to fit into a short step. A save is measured
twice: blocking, with nothing beside it, and asynchronous, between steps. The peer is PyTorch's
distributed checkpoint (`torch.distributed.checkpoint`), which copies before it returns; its files
are written without a hash. Both take turns in one process, on one model.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor

from baiwen import dist
from baiwen.dist import World
from baiwen.model.sizes import SIZES
from baiwen.model.transformer import Transformer
from baiwen.train.checkpoint import Checkpoints, optimizer_tensors
from baiwen.train.optim import Optim, build
from benchmarks import page

OURS, PEER = "baiwen", "DCP async_save"
SHARE = 0.05  # the target: of a blocking save, what the loop waits


class Side(Protocol):
    """One way to save the state."""

    def save(self) -> None:
        """Begin; returns when the next step may begin."""

    def settle(self) -> None:
        """Return when weights may change."""

    def wait(self) -> None:
        """Return when all is on the disk."""


class Ours:
    """`baiwen.train.checkpoint`."""

    def __init__(self, trained: "Trained", folder: Path, world: World) -> None:
        self.checkpoints = Checkpoints(folder, trained.model, trained.optimizers, world, keep=1)
        self.step = 0

    def save(self) -> None:
        """The threads copy and write."""
        self.step += 1
        self.checkpoints.save(self.step, {"heldout": None})

    def settle(self) -> None:
        """Until the copy is made."""
        self.checkpoints.settle()

    def wait(self) -> None:
        """Until it has its name."""
        self.checkpoints.wait()


class Peer:
    """`torch.distributed.checkpoint.async_save`, in a thread of this process."""

    def __init__(self, trained: "Trained", folder: Path) -> None:
        self.trained, self.folder = trained, folder
        self.pending: Future[Any] | None = None

    def save(self) -> None:
        """Copies, then a thread writes."""
        shutil.rmtree(self.folder, ignore_errors=True)
        found = dcp.async_save(self.trained.state(), checkpoint_id=self.folder, no_dist=True)
        assert isinstance(found, Future)
        self.pending = found

    def settle(self) -> None:
        """It has copied already."""

    def wait(self) -> None:
        """Until the thread is done."""
        assert self.pending is not None
        self.pending.result()


@dataclass
class Trained:
    """A model, its optimizer, and a batch that it is trained on."""

    model: Transformer
    tokens: Tensor  # [1, T]

    def __post_init__(self) -> None:
        self.optimizers = build(self.model, Optim())

    def state(self) -> dict[str, Tensor]:
        """All that a checkpoint holds."""
        return dict(self.model.named_parameters()) | dict(
            optimizer_tensors(self.model, self.optimizers)
        )

    def step(self, settle: Callable[[], None]) -> tuple[float, float]:
        """One step; its seconds, and those in which it waited for `settle`."""
        began = time.perf_counter()
        outputs = self.model(self.tokens)
        logits = outputs.hidden[:, :-1].float() @ outputs.head.T
        torch.nn.functional.cross_entropy(logits[0], self.tokens[0, 1:]).backward()
        waited = seconds(settle)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return time.perf_counter() - began, waited


@dataclass
class Measured:
    """Seconds of one side, a number a round."""

    blocking: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)  # in save, and before the next update
    beside: list[float] = field(default_factory=list)  # steps while it was being written
    memory: int = 0  # bytes that a save takes

    @property
    def share(self) -> float:
        """Of a blocking save, what the loop waits."""
        return median(self.waited) / median(self.blocking)


def main() -> None:
    """Measure, print, and write the page when asked."""
    options = arguments()
    with dist.session("cpu", "float32", threads=options.threads) as world:
        trained = Trained(*made(options))
        with tempfile.TemporaryDirectory() as place:
            sides: dict[str, Side] = {
                OURS: Ours(trained, Path(place, "ours"), world),
                PEER: Peer(trained, Path(place, "peer")),
            }
            quiet, found = measure(trained, sides, options.rounds)
    page.publish(
        "checkpoint", "Checkpoints beside training", body(trained, quiet, found), options.write
    )


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = page.parser(__doc__)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--vocabulary", type=int, default=151936)
    parser.add_argument("--tokens", type=int, default=512, help="of a step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def made(options: argparse.Namespace) -> tuple[Transformer, Tensor]:
    """The model, and a row of tokens."""
    shape = {"num_hidden_layers": options.layers, "vocab_size": options.vocabulary}
    model = Transformer(replace(SIZES["0.5b"], **shape))
    model.init_weights(0)
    return model, torch.randint(options.vocabulary, (1, options.tokens))


def measure(
    trained: Trained, sides: dict[str, Side], rounds: int
) -> tuple[list[float], dict[str, Measured]]:
    """Seconds of steps with nothing beside them, and what each side took; in turns."""
    found = {name: Measured() for name in sides}
    quiet: list[float] = []
    trained.step(lambda: None)  # makes the moments
    for _ in range(rounds):
        for name, side in sides.items():
            quiet.append(trained.step(lambda: None)[0])
            turn(trained, side, found[name])
    return quiet, found


def turn(trained: Trained, side: Side, found: Measured) -> None:
    """A save with nothing beside it, and one between steps."""
    found.blocking.append(seconds(side.save) + seconds(side.wait))
    before = resident()
    waited = seconds(side.save)
    first, settled = trained.step(side.settle)
    found.waited.append(waited + settled)
    found.beside.append(first - settled)
    found.memory = max(found.memory, resident() - before)
    side.wait()


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def resident() -> int:
    """Bytes of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * 4096


def body(trained: Trained, quiet: list[float], found: dict[str, Measured]) -> list[str]:
    """The page."""
    size = sum(tensor.nbytes for tensor in trained.state().values())
    head = ["side", "blocking save", "the loop waits", "share", "step beside it", "memory"]
    rows = [
        [
            name,
            f"{median(one.blocking):.2f} s",
            f"{median(one.waited):.3f} s",
            f"{one.share:.1%}",
            f"{median(one.beside) / median(quiet):.2f}x",
            f"{one.memory / page.GIB:.2f} GiB",
        ]
        for name, one in found.items()
    ]
    ours = found[OURS].share
    claim = "the step loop waits, of a blocking save"
    return [
        f"{size / 1e9:.2f} GB of weights and moments; a step of {trained.tokens.numel()} tokens "
        f"takes {median(quiet):.2f} s alone; medians of {len(found[OURS].waited)} rounds",
        "",
        *page.table(head, rows),
        "",
        *page.claims([(claim, f"<= {SHARE:.0%}", f"{ours:.1%}", ours <= SHARE)]),
    ]


if __name__ == "__main__":
    main()
