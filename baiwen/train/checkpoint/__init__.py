"""Checkpoints: everything a run needs to go on as if it had never stopped, on any ranks.

    out/state/step-00000200/
        model-00003.safetensors      rank 3's part of the weights, in the precision they train in
        optimizer-00003.safetensors  and of the optimizers' state: "model.norm.weight|exp_avg", ...
        tensors.json                 which file holds which box of each tensor
        state.json                   step, the guard's windows, held-out loss, random states (hex)
        manifest.json                SHA-256 of all files; without it the folder does not count

    checkpoints = Checkpoints(out / "state", model, optimizers, world, keep=2)
    start = checkpoints.resume()                     # {"step": 200, ...}, or {} for a fresh run
    checkpoints.save(300, {"heldout": 2.31})         # threads copy and write while the run goes on

pieces   which boxes of a tensor a rank holds, under any layout
image    a file in host memory: copied at once, written later
saved    the index, and reading any part of any tensor
save     one checkpoint under way: the threads of all ranks, and what they tell each other

Every rank writes what it holds, and nothing twice; every rank reads what falls into its part, so a
run may go on with another number of ranks or another layout. All ranks see one file system. The
next step's gradients are computed while the state is copied, and its weights are changed after. A
damaged folder is passed over for the one before. Nothing that is not finite is written. No pickle.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from baiwen import files, log
from baiwen.dist import World, barrier, gather
from baiwen.errors import UserError
from baiwen.train.checkpoint.image import Image
from baiwen.train.checkpoint.pieces import part, writes
from baiwen.train.checkpoint.save import STATE, Save
from baiwen.train.checkpoint.saved import Index, Saved, described

__all__ = ("Checkpoints", "Saved", "optimizer_tensors", "part")

MODEL, OPTIMIZER = "model", "optimizer"


class Checkpoints:
    """The `state/` folder of a run; as a context manager it waits for the last write."""

    def __init__(
        self,
        folder: Path,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        world: World,
        *,
        keep: int = 2,
    ) -> None:
        self.folder, self.world, self.keep = folder, world, keep
        self.model, self.optimizers = model, optimizers
        self._save: Save | None = None
        for optimizer in optimizers:
            optimizer.register_step_pre_hook(lambda *_: self.settle())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is None:
            self.wait()
        elif self._save is not None:  # the error under way is the one to show
            self._save.join()

    def resume(self) -> dict[str, Any]:
        """Load the newest whole checkpoint in place; its state, or {} where there is none.

        All ranks call it. UserError where there are some, and none of them is whole.
        """
        step = self._newest()
        if step == 0:
            return {}
        with Saved(self._path(step)) as saved:
            for name, parameter in self.model.named_parameters():
                saved.read(name, into=parameter)
            self._load_optimizers(saved)
        state = files.read_json(self._path(step) / STATE)
        _set_random_state(self.world, state["random"])
        barrier(self.world)  # reading takes some ranks longer than a collective waits
        return state

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Let threads copy everything and write it; waits for the one before.

        state: plain JSON; `heldout` is the held-out loss, or None. All ranks call it. No weight and
        no optimizer's state may change before `settle` has returned; the optimizers' own steps call
        it.
        """
        self.wait()
        images: dict[str, Image] = {}
        index: Index = {}
        for kind, tensors in (
            (MODEL, self.model.named_parameters()),
            (OPTIMIZER, optimizer_tensors(self.model, self.optimizers)),
        ):
            file = f"{kind}-{self.world.rank:05}.safetensors"
            parts, found = described(_mine(tensors, self.world), file)
            images[file] = Image(parts)
            index |= found
        record = {"step": step, **state, "random": _random_state(self.world)}
        if not math.isfinite(record["heldout"] or 0.0):
            record["heldout"] = None  # JSON has no word for it, and it is not the least
        self._save = Save(self._path(step), images, index, record, self.world, self._prune)

    def settle(self) -> None:
        """Return once weights and optimizers' state may change again.

        Raises what has gone wrong with the write by now: the steps to come could not be saved.
        """
        if (save := self._save) is not None:
            save.settle()
            if save.error is not None:
                self.wait()

    def wait(self) -> None:
        """Return when nothing is being written; raises what went wrong in a thread of any rank.

        All ranks call it, and what it raises it raises on all.
        """
        if (save := self._save) is not None:
            save.join()
            self._save = None
            if save.error is not None:
                raise save.error

    def steps(self) -> list[int]:
        """Steps of the checkpoints on disk, oldest first."""
        return sorted(int(path.name.removeprefix("step-")) for path in self.folder.glob("step-*"))

    def best(self) -> Path | None:
        """The checkpoint with the least held-out loss, as rank 0 sees them; None without any.

        All ranks call it.
        """
        best = self._best() if self.world.main else None
        name = gather(self.world, best and best.name)[0]
        return name and self.folder / name

    def _best(self) -> Path | None:
        states = {path: files.read_json(path / STATE) for path in map(self._path, self.steps())}
        measured = {path: s["heldout"] for path, s in states.items() if s["heldout"] is not None}
        return min(measured, key=measured.__getitem__, default=None)

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def _newest(self) -> int:
        """The newest step that is whole; damaged ones after it go, since the run comes by again."""
        steps, damaged = gather(self.world, self.steps())[0], []
        for step in reversed(steps):
            if reason := self._damage(step):
                if self.world.main:
                    log.say(f"checkpoint of step {step} passed over: {reason}")
                damaged.append(step)
                continue
            if self.world.main:
                for later in damaged:
                    files.remove_folder(self._path(later))
            return step
        if damaged:
            raise UserError(
                f"{self.folder}: not one of its {len(damaged)} checkpoints is whole.\n"
                "Delete this folder to train from the beginning."
            )
        return 0

    def _damage(self, step: int) -> str:
        """What is wrong with a checkpoint, of which every rank reads its share; "" if nothing."""
        try:
            files.check(self._path(step), self.world.rank, self.world.size)
            found = ""
        except UserError as error:
            found = str(error)
        barrier(self.world)  # reading large files takes its time
        return next(filter(None, gather(self.world, found)), "")

    def _load_optimizers(self, saved: Saved) -> None:
        parameters = dict(self.model.named_parameters())
        owners = {
            p: o for o in self.optimizers for group in o.param_groups for p in group["params"]
        }
        for entry in saved.index:
            name, bar, key = entry.partition("|")
            if bar:
                parameter = parameters[name]
                owners[parameter].state[parameter][key] = saved.like(entry, parameter)

    def _prune(self) -> None:
        """Delete all but the last `keep` and the one with the least held-out loss."""
        best = self._best()
        for step in self.steps()[: -self.keep]:
            if self._path(step) != best:
                files.remove_folder(self._path(step))


def optimizer_tensors(
    model: nn.Module, optimizers: Sequence[Optimizer]
) -> Iterable[tuple[str, Tensor]]:
    """Every tensor of the optimizers' state as `parameter|key`, in the model's order."""
    for name, parameter in model.named_parameters():
        for optimizer in optimizers:
            for key, value in sorted(optimizer.state.get(parameter, {}).items()):
                yield f"{name}|{key}", value


def _mine(named: Iterable[tuple[str, Tensor]], world: World) -> Iterable[tuple[str, Tensor]]:
    """The tensors of which it is this rank that writes its part."""
    return (
        (name, tensor)
        for number, (name, tensor) in enumerate(named)
        if writes(tensor, number, world)
    )


def _random_state(world: World) -> dict[str, str]:
    state = {"cpu": torch.get_rng_state()}
    if world.device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(world.device)
    return {kind: value.numpy().tobytes().hex() for kind, value in state.items()}


def _set_random_state(world: World, states: list[dict[str, str]]) -> None:
    """That of this rank, if there are as many as then; else that of the first on all."""
    state = states[world.rank if len(states) == world.size else 0]
    torch.set_rng_state(_bytes(state["cpu"]))
    if world.device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(_bytes(state["cuda"]), world.device)


def _bytes(text: str) -> Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
