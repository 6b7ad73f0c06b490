"""Checkpoints: everything a run needs to go on as if it had never stopped.

    out/state/step-00000200/
        model.safetensors        weights in the precision they train in
        optimizer.safetensors    "model.norm.weight|exp_avg", ...
        state.json               step, the guard's windows, held-out loss, random states (hex)
        manifest.json            SHA-256 of each; without it the folder does not count

    checkpoints = Checkpoints(out / "state", model, optimizers, world, keep=2)
    start = checkpoints.resume()                     # {"step": 200, ...}, or {} for a fresh run
    checkpoints.save(300, {"guard": guard.state()})  # copies to memory; a thread writes

Whole tensors are written whatever the number of ranks, so a run may go on with another number. A
folder appears only whole (`files.writing_folder`); a damaged one is passed over for the one before.
Nothing that is not finite is written. No pickle: safetensors and JSON.
"""

import os
import re
import shutil
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from baiwen import files, log
from baiwen.dist import World, barrier, gather
from baiwen.errors import UserError

MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"


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
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is None:
            self.wait()
        elif self._thread is not None:  # the error under way is the one to show
            self._thread.join()

    def resume(self) -> dict[str, Any]:
        """Load the newest whole checkpoint in place; its state, or {} where there is none."""
        step = self._newest()
        if step == 0:
            return {}
        folder = self._path(step)
        _load_weights(self.model, folder / MODEL)
        _load_optimizers(self.model, self.optimizers, folder / OPTIMIZER)
        state = files.read_json(folder / STATE)
        _set_random_state(self.world, state["random"])
        return state

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Copy everything to host memory and let a thread write it; waits for the one before.

        All ranks call it: whole tensors are gathered, rank 0 writes.
        """
        self.wait()
        weights = snapshot(self.model.named_parameters(), keep=self.world.main)
        moments = snapshot(optimizer_tensors(self.model, self.optimizers), keep=self.world.main)
        if self.world.main:
            record = {"step": step, **state, "random": _random_state(self.world)}
            self._thread = threading.Thread(
                target=self._write, args=(step, weights, moments, record), name="checkpoint"
            )
            self._thread.start()

    def wait(self) -> None:
        """Return when nothing is being written; raises what went wrong in the thread.

        All ranks call it and leave it together, so that none ends the job, or waits in a collective
        until that times out, while rank 0 writes.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        barrier(self.world)

    def steps(self) -> list[int]:
        """Steps of the checkpoints on disk, oldest first."""
        return sorted(int(path.name.removeprefix("step-")) for path in self.folder.glob("step-*"))

    def best(self) -> Path | None:
        """The checkpoint with the least held-out loss; None where none was measured."""
        states = {path: files.read_json(path / STATE) for path in map(self._path, self.steps())}
        measured = {path: s["heldout"] for path, s in states.items() if s["heldout"] is not None}
        return min(measured, key=measured.__getitem__, default=None)

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def _newest(self) -> int:
        """The newest step whose files match their manifest, agreed by all ranks; 0 without any."""
        step = self._whole() if self.world.main else 0
        barrier(self.world)  # reading large files takes rank 0 its time
        return int(gather(self.world, step)[0])

    def _whole(self) -> int:
        """The newest step that is whole; damaged ones after it go, since the run comes by again."""
        damaged: list[Path] = []
        for step in reversed(self.steps()):
            try:
                files.check(self._path(step))
            except UserError as error:
                log.say(f"checkpoint of step {step} passed over: {error}")
                damaged.append(self._path(step))
                continue
            for path in damaged:
                shutil.rmtree(path)
            return step
        if damaged:
            raise UserError(
                f"{self.folder}: not one of its {len(damaged)} checkpoints is whole.\n"
                "Delete this folder to train from the beginning."
            )
        return 0

    def _write(
        self,
        step: int,
        weights: dict[str, Tensor],
        moments: dict[str, Tensor],
        state: dict[str, Any],
    ) -> None:
        try:
            refuse_non_finite({**weights, **moments}, f"checkpoint of step {step}")
            with files.writing_folder(self._path(step)) as folder:
                _save(weights, folder / MODEL)
                _save(moments, folder / OPTIMIZER)
                files.write_json(folder / STATE, state)
            self._prune()
        except BaseException as error:  # handed to the loop, which raises it
            self._error = error

    def _prune(self) -> None:
        """Delete all but the last `keep` and the one with the least held-out loss."""
        steps = self.steps()
        for step in steps[: -self.keep]:
            if self._path(step) != self.best():
                shutil.rmtree(self._path(step))


def snapshot(tensors: Iterable[tuple[str, Tensor]], *, keep: bool = True) -> dict[str, Tensor]:
    """Whole copies in host memory, one tensor gathered at a time; nothing where not `keep`."""
    copies = {}
    for name, tensor in tensors:
        whole = tensor.detach()
        if isinstance(whole, DTensor):
            whole = whole.full_tensor()
        if keep:
            copies[name] = whole.to("cpu", copy=True).contiguous()
    return copies


def refuse_non_finite(tensors: dict[str, Tensor], what: str) -> None:
    """Raise where a NaN or an infinity would be written."""
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise UserError(
                f"{what}: {name} holds NaN or infinity, so it is not written.\n"
                "The checkpoints before it are whole. Lower optim.lr or optim.clip and run again."
            )


def optimizer_tensors(
    model: nn.Module, optimizers: Sequence[Optimizer]
) -> Iterable[tuple[str, Tensor]]:
    """Every tensor of the optimizers' state as `parameter|key`, in the model's order."""
    for name, parameter in model.named_parameters():
        for optimizer in optimizers:
            for key, value in optimizer.state.get(parameter, {}).items():
                yield f"{name}|{key}", value


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    """`save_file`, which hides the system's errors: a full disk is an OSError again."""
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def _load_weights(model: nn.Module, path: Path) -> None:
    with safe_open(path, framework="pt") as file, torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(placed_like(parameter, file.get_tensor(name)))


def _load_optimizers(model: nn.Module, optimizers: Sequence[Optimizer], path: Path) -> None:
    parameters = dict(model.named_parameters())
    owners = {p: o for o in optimizers for group in o.param_groups for p in group["params"]}
    with safe_open(path, framework="pt") as file:
        for entry in file.keys():  # noqa: SIM118 - not a dict
            name, key = entry.split("|")
            parameter, value = parameters[name], file.get_tensor(entry)
            owners[parameter].state[parameter][key] = placed_like(parameter, value)


def placed_like(parameter: Tensor, value: Tensor) -> Tensor:
    """`value` on the parameter's device and split as it is over ranks; a count of steps is not."""
    value = value.to(parameter.device)
    if isinstance(parameter, DTensor) and value.ndim:
        # Every rank reads the file, so none has to send.
        return distribute_tensor(
            value, parameter.device_mesh, parameter.placements, src_data_rank=None
        )
    return value


def _random_state(world: World) -> dict[str, str]:
    state = {"cpu": torch.get_rng_state()}
    if world.device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(world.device)
    return {kind: value.numpy().tobytes().hex() for kind, value in state.items()}


def _set_random_state(world: World, state: dict[str, str]) -> None:
    torch.set_rng_state(_bytes(state["cpu"]))
    if world.device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(_bytes(state["cuda"]), world.device)


def _bytes(text: str) -> Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
