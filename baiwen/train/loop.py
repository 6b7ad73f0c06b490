"""The training loop: the only one, for every objective.

    train(model, loader.step, lm, steps=300, optim=Optim(lr=1e-3), schedule=Schedule(),
          loop=Loop(), world=world, out=folder.path, heldout=rows)

A step is a number; its batches and its learning rate follow from that number alone, so a run that
was killed and resumed ends in the same bits. The gradient is that of

    sum of the loss over all tokens of the step / their count        (+ the balance of experts)

whatever the number of ranks and micro-batches: the count is known before the first backward pass.
"""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar

import torch
from pydantic import Field
from torch import Tensor
from torch.optim import Optimizer

from baiwen import files
from baiwen.config import Knobs
from baiwen.dist import World, agreed, catch_up, sum_over
from baiwen.errors import UserError
from baiwen.log import StepLog, say
from baiwen.model.documents import Documents
from baiwen.model.transformer import Model
from baiwen.train.balance import Loads, Routers
from baiwen.train.checkpoint import Checkpoints
from baiwen.train.guard import Guard, stopping
from baiwen.train.losses import Batch, Loss
from baiwen.train.meter import Meter, steady
from baiwen.train.optim import Optim, build, clip, set_rate
from baiwen.train.parallel import release
from baiwen.train.schedule import Schedule, rate

B = TypeVar("B", bound=Batch)
Objective = Callable[..., Loss]  # (outputs, batch) -> Loss
Tracker = Literal["tensorboard", "wandb", "trackio"]


class DivergedError(UserError):
    """The loss or its gradient was not finite, or a spike, too many steps in a row."""


class Source(Protocol):
    """Where batches come from that are no function of the step alone, as rollouts are."""

    def state(self) -> dict[str, Any]:
        """What the batches after this step depend on, beside the weights: plain JSON."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""

    def metrics(self, step: Mapping[str, float]) -> dict[str, float]:
        """What to log beside the metrics of the step that was served last."""


class Loop(Knobs):
    """What happens around the steps."""

    eval_every: Annotated[int, Field(gt=0)] = 100  # steps between measurements of held-out loss
    save_every: Annotated[int, Field(gt=0)] = 500  # steps between checkpoints
    save_minutes: Annotated[float, Field(gt=0)] = 15.0  # minutes until one is written anyway
    keep: Annotated[int, Field(gt=0)] = 2  # newest checkpoints kept, beside the best
    keep_best: bool = False  # write the checkpoint of the least held-out loss to `best/` at the end
    max_skipped: Annotated[int, Field(gt=0)] = 10  # skipped steps in a row after which a run stops
    skip_spikes: bool = False  # skip steps whose loss or gradient is 6 sigma above the last 128
    trackers: tuple[Tracker, ...] = ()  # any of tensorboard, wandb, trackio


def train(
    model: Model,
    batches: Callable[[int], Sequence[Batch]],
    objective: Objective,
    *,
    steps: int,
    optim: Optim,
    schedule: Schedule,
    loop: Loop,
    world: World,
    out: Path,
    heldout: Sequence[Batch] = (),
    flops_per_token: float = 0.0,
    routers: Routers | None = None,
    source: Source | None = None,
    until: int | None = None,
) -> Path | None:
    """Train `model` in place up to optimizer step `steps`, from the last checkpoint in `out`.

    `batches(n)` are this rank's micro-batches of the n-th step, from 0; `heldout` its share of the
    held-out rows; `routers` the losses of a mixture's (none: its balance alone); `source` keeps a
    state of its own in each checkpoint. With `until` it stops after that step, to be gone on from.
    Writes `metrics.jsonl`, `device.json`, `state/` and, of a mixture, `experts.jsonl`. Returns
    the checkpoint with the least held-out loss if `keep_best` asks for it. Raises
    KeyboardInterrupt or SystemExit(143) once the state is saved after a signal, and DivergedError
    after `max_skipped` skipped steps in a row, or half of all.
    """
    catch_up(world)  # each rank has read the data at its own pace
    last = min(until or steps, steps)
    optimizers = build(model, optim, sharded=world.size > 1, dtype=world.dtype)
    # Of a short run half are too many: it would end with weights that nothing has moved, or broken.
    guard = Guard(max_skipped=min(loop.max_skipped, (steps + 1) // 2), skip_spikes=loop.skip_spikes)
    state = Checkpoints(out / "state", model, optimizers, world, keep=loop.keep)
    start = _resume(state, guard, source, world)
    routers, loads = routers or Routers(model.config, world), Loads(out, start, world)
    meter, saves = Meter(world, flops_per_token), Saves(state, guard, source, loop, last, world)
    if world.main:
        files.write_json(out / "device.json", meter.describe())
    with (
        StepLog(out, total=steps, start=start, trackers=loop.trackers, main=world.main) as log,
        state,
        steady(),
        stopping() as stop,
    ):
        for step in range(start + 1, last + 1):
            meter.start()
            set_rate(optimizers, rate(schedule, step, steps, optim.lr))
            world.at("fetching the batch", step)
            metrics = advance(
                model, batches(step - 1), objective, optimizers, guard, world, optim, routers
            )
            metrics |= meter.read(metrics["tokens"])
            if source:
                metrics |= source.metrics(metrics)
            if step % loop.eval_every == 0 or step == steps:
                loads.write(step, routers.counts)
                metrics |= evaluate(model, heldout, objective, world) if heldout else {}
            log.step(step, metrics)
            if guard.exhausted:
                raise _hopeless(step, guard, state)
            if saves.after(step, metrics.get("heldout_loss"), stop.signal != 0):
                break
        state.wait()
        if agreed(world, stop.signal != 0)[0]:  # also by a signal that came during the last write
            raise stop.error()
    return state.best() if loop.keep_best else None


def advance(
    model: Model,
    batches: Sequence[Batch],
    objective: Objective,
    optimizers: Sequence[Optimizer],
    guard: Guard,
    world: World,
    optim: Optim,
    routers: Routers | None = None,
) -> dict[str, float]:
    """One optimizer step over this rank's micro-batches: accumulate, clip, judge, apply."""
    sums = accumulate(model, batches, objective, world, routers)
    world.at("changing the weights")
    sums["grad_norm"] = clip(model.parameters(), optim.clip)
    # The one point of a step where the host waits for the device.
    values = torch.stack([value.double() for value in sums.values()]).tolist()
    metrics = dict(zip(sums, values, strict=True))
    if guard.passes(metrics["loss"], metrics["grad_norm"]):
        for optimizer in optimizers:
            optimizer.step()
    for optimizer in optimizers:
        optimizer.zero_grad()
    return {**metrics, "lr": optimizers[0].param_groups[0]["lr"], "skipped": guard.skipped}


def accumulate(
    model: Model,
    batches: Sequence[Batch],
    objective: Objective,
    world: World,
    routers: Routers | None = None,
) -> dict[str, Tensor]:
    """Leave the gradient of the step's mean loss in the parameters; metrics as means, and `tokens`.

    The count of all micro-batches and ranks divides every micro-batch's sum before its backward
    pass, so gradients only ever add up.
    """
    world.at("computing the gradient")
    count, tokens = _totals(batches, world)
    routers = routers or Routers(model.config, world)
    routers.begin(tokens)
    sums: dict[str, Tensor] = {}
    with world.autocast():  # one context a step: autocast keeps each weight's cast within it
        for batch in batches:
            placed = to_device(batch, world.device)
            outputs = model(
                placed.tokens,
                positions=placed.positions,
                documents=placed.documents,
                chosen=placed.chosen,
            )
            loss = objective(outputs, placed)
            means = {name: value / count for name, value in loss.metrics.items()}
            mean = loss.total / count
            if outputs.routing is not None:
                mean = mean + routers(outputs.routing)
            with torch.autocast(world.device.type, enabled=False):
                mean.backward()
            for name, value in means.items():
                sums[name] = sums.get(name, 0.0) + value.detach()
    over_ranks = sum_over(world, torch.stack(list(sums.values())))
    means = dict(zip(sums, over_ranks.unbind(), strict=True))
    return {**means, **routers.metrics(), "tokens": tokens}


@torch.no_grad()
def evaluate(
    model: Model, batches: Sequence[Batch], objective: Objective, world: World
) -> dict[str, float]:
    """Mean metrics over all ranks' shares of the held-out rows, by name with `heldout_` before it.

    Every rank has as many batches.
    """
    world.at("measuring the held-out loss")
    sums: dict[str, Tensor] = {}
    for batch in batches:
        placed = to_device(batch, world.device)
        with world.autocast():
            outputs = model(placed.tokens, positions=placed.positions, documents=placed.documents)
            for name, value in objective(outputs, placed).metrics.items():
                sums[name] = sums.get(name, 0.0) + value
    release(model)
    means = sum_over(world, torch.stack(list(sums.values()))) / _totals(batches, world)[0]
    return {f"heldout_{name}": value for name, value in zip(sums, means.tolist(), strict=True)}


def to_device(batch: B, device: torch.device) -> B:
    """The batch with its tensors and documents on `device`; the same one where they are."""
    if device.type == "cpu":
        return batch
    record: Any = batch  # a dataclass, which a Protocol cannot say
    moved: B = replace(record, **_moved(vars(record), device))
    return moved


def _moved(fields: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The fields that hold tensors, or dicts of them, with those on `device`."""
    moved: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, Tensor | Documents):
            moved[name] = value.to(device, non_blocking=True)
        elif isinstance(value, Mapping):
            moved[name] = _moved(value, device)
    return moved


class Saves:
    """When the state is written: every so many steps and minutes, at the end, and before a stop."""

    def __init__(
        self,
        state: Checkpoints,
        guard: Guard,
        source: Source | None,
        loop: Loop,
        last: int,
        world: World,
    ) -> None:
        self.state, self.guard, self.source = state, guard, source
        self.every, self.seconds, self.last = loop.save_every, 60 * loop.save_minutes, last
        self.world = world
        self.began = time.monotonic()

    def after(self, step: int, heldout_loss: float | None, asked: bool) -> bool:
        """Write the state of `step` if it is due; whether some rank was `asked` to stop."""
        rings = time.monotonic() - self.began >= self.seconds
        asked, late = agreed(self.world, asked, rings)
        due = late or step % self.every == 0 or step == self.last
        # A doubtful step must not push out the checkpoints before it.
        if asked or (due and not self.guard.in_a_row):
            self.world.at("saving a checkpoint")
            kept = {"guard": self.guard.state(), "heldout": heldout_loss}
            self.state.save(step, kept | self._source())
            self.began = time.monotonic()
            gc.collect()
        return asked

    def _source(self) -> dict[str, Any]:
        return {"source": self.source.state()} if self.source else {}


def _totals(batches: Sequence[Batch], world: World) -> tuple[Tensor, Tensor]:
    """Weight of the targets and number of real tokens, over all micro-batches and ranks."""
    here = [sum(batch.count for batch in batches), float(sum(batch.real for batch in batches))]
    count, real = sum_over(world, torch.tensor(here, dtype=torch.float64, device=world.device))
    return count.float(), real.float()


def _resume(state: Checkpoints, guard: Guard, source: Source | None, world: World) -> int:
    """Load the newest checkpoint and return its step; 0 where there is none."""
    found = state.resume()
    if not found:
        return 0
    guard.restore(found["guard"])
    if source:
        source.restore(found["source"])
    if world.main:
        say(f"resumed after step {found['step']}")
    return found["step"]


def _hopeless(step: int, guard: Guard, state: Checkpoints) -> DivergedError:
    state.wait()
    steps = state.steps()
    last = f"{state.folder} has the one of step {steps[-1]}" if steps else "there is none yet"
    return DivergedError(
        f"step {step}: the loss or its gradient was not finite, or a spike, for {guard.in_a_row} "
        f"steps in a row; none of them changed the weights.\nLast checkpoint: {last}.\n"
        "Lower optim.lr or lengthen schedule.warmup, and run into another `out`."
    )
