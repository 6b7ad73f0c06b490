"""One state through ranks of many numbers and layouts, each of which writes what another reads.

    python tests/train/resharded.py FOLDER

Leaves in FOLDER/read.jsonl, for each session of ranks, a digest of every whole tensor that it has
read, and in FOLDER/published-NUMBER what some of them publish. FOLDER/faults.json says what two
ranks do where one of them cannot write, or a file is gone; FOLDER/kills.jsonl what kills leave.
"""

import dataclasses
import itertools
import json
import os
import resource
import shutil
import signal
import sys
from hashlib import sha256
from pathlib import Path

import tiny
import torch
import torch._dynamo  # which every rank would import for itself
from shared_rows import fork

from baiwen import dist, files
from baiwen.dist import Layout
from baiwen.errors import UserError
from baiwen.tokenizer import bpe
from baiwen.train.checkpoint import Checkpoints, optimizer_tensors
from baiwen.train.dtensor import local, whole
from baiwen.train.optim import Optim, build
from baiwen.train.parallel import Parallel, shard
from baiwen.train.publish import publish

# Ranks and their layout, one after the other: the first trains, the others go on.
WAYS = [
    (4, Layout(tensor=2, expert=4)),
    (2, Layout()),
    (1, Layout()),
    (2, Layout(tensor=2)),
    (2, Layout(replicate=2)),
]
# A mixture has weights of every kind: on either mesh, whole on tensor ranks, and of one row, of
# which only one rank has any. What tensor ranks have of these does not halve.
UNEVEN = {"vocab_size": 98, "shared_expert_intermediate_size": 22}
SPARSE = dataclasses.replace(tiny.MOE, **UNEVEN)


def spread(config, world, seed=0):
    """A model; one of another seed has other weights."""
    model = tiny.model(config, seed)
    layout = world.layout
    knobs = Parallel(replicate=layout.replicate, tensor=layout.tensor, expert=layout.expert)
    return shard(model, knobs, world)


def stepped(model, optimizers):
    """Two steps, of gradients that are none of a loss's."""
    for number in (1, 2):
        for parameter in model.parameters():
            parameter.grad = parameter.detach() * number + 0.01
        for optimizer in optimizers:
            optimizer.step()


def digests(model, optimizers):
    """Of all that a checkpoint keeps, whole."""
    tensors = [*model.named_parameters(), *optimizer_tensors(model, optimizers)]
    wholes = {name: whole(tensor) for name, tensor in tensors}
    return {
        name: sha256(x.detach().contiguous().view(-1).view(torch.uint8).numpy()).hexdigest()
        for name, x in wholes.items()
    }


def go_on(out, turn):
    """Read what the turn before has written; write it in this one's layout."""
    layout = WAYS[turn][1]
    with dist.session("cpu", "float32", threads=1, timeout=60, layout=layout) as world:
        found = passed_on(out, turn, world)
        if world.main:
            with (out / "read.jsonl").open("a") as file:
                file.write(json.dumps(found) + "\n")


def passed_on(out, turn, world):
    """Read, and write; digests of what was read."""
    model = spread(SPARSE, world, seed=turn)
    optimizers = build(model, Optim(), sharded=world.size > 1)
    with Checkpoints(out / "state", model, optimizers, world) as checkpoints:
        assert checkpoints.resume().get("step", 0) == turn
        if turn == 0:
            stepped(model, optimizers)
        checkpoints.save(turn + 1, {"heldout": 1.0})
    found = digests(model, optimizers)
    if world.size != 2:
        local(model.model.norm.weight).add_(1)
        knobs = {"dtype": torch.bfloat16, "chat": True, "shard_bytes": 10_000}
        folder, tokenizer = out / f"published-{turn}", bpe.train(["a"], 256)
        publish(model, tokenizer, folder, world, best=checkpoints.best(), **knobs)
    return found


def faults(out):
    """Two ranks of which the second has a full disk, then a NaN; then a file is gone."""
    told = {}
    with dist.session("cpu", "float32", threads=1, timeout=60) as world:
        model = spread(tiny.CONFIG, world)
        checkpoints = Checkpoints(out / "faults", model, build(model, Optim()), world)
        checkpoints.save(1, {"heldout": None})
        checkpoints.wait()
        told["full"] = told_by_all(world, checkpoints, 2, full=world.rank == 1)
        norm = local(model.model.norm.weight)
        before = norm.clone()
        if world.rank == 1:
            norm[0] = torch.nan
        told["nan"] = told_by_all(world, checkpoints, 3)
        norm.copy_(before)
        told["left"] = sorted(path.name for path in checkpoints.folder.iterdir())
        checkpoints.save(4, {"heldout": None})
        checkpoints.wait()
        if world.main:
            (checkpoints.folder / "step-00000004/optimizer-00001.safetensors").unlink()
        dist.barrier(world)
        told["resumed"] = dist.gather(world, checkpoints.resume()["step"])
        if world.main:
            files.write_json(out / "faults.json", told)


def told_by_all(world, checkpoints, step, full=False):
    """What each rank hears of a save that one of them cannot do."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    if full:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
    try:
        checkpoints.save(step, {"heldout": None})
        checkpoints.wait()
        found = "nothing"
    except UserError as error:
        found = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    return dist.gather(world, found)


def marked(folder, step, victim=-1, moment=0):
    """A checkpoint whose numbers tell its step; one rank is killed at a moment of its writing."""
    with dist.session("cpu", "float32", threads=1, timeout=60) as world:
        model = spread(tiny.CONFIG, world)
        for parameter in model.parameters():
            local(parameter).fill_(step)
        checkpoints = Checkpoints(folder, model, build(model, Optim()), world, keep=1)
        if world.rank == victim:
            die_at(moment)
        checkpoints.save(step, {"heldout": None})
        checkpoints.wait()


def die_at(moment):
    """Let this process be killed where it would sync or rename a file for the n-th time."""
    moments = itertools.count()

    def before(call):
        def counted(*arguments):
            if next(moments) == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments)

        return counted

    os.fsync, os.rename, os.replace = map(before, (os.fsync, os.rename, os.replace))


def found(rows, trials):
    """One process goes on: from which checkpoint, and whether it is that one throughout."""
    with dist.session("cpu", "float32", threads=1) as world, rows.open("w") as file:
        for folder, trial in trials.items():
            model = spread(tiny.CONFIG, world)
            step = Checkpoints(folder, model, build(model, Optim()), world).resume()["step"]
            whole = all(bool((parameter == step).all()) for parameter in model.parameters())
            file.write(json.dumps({**trial, "step": step, "whole": whole}) + "\n")


def kills(out):
    """Each moment at which one process writes; of two ranks a few moments of either."""
    trials = {}
    for ranks, victim, moments in ((1, 0, range(99)), (2, 0, (1, 11)), (2, 1, (0,))):
        before = out / f"marked-{ranks}"
        if not before.exists():
            fork(ranks, marked, before, 1)
        for moment in moments:
            folder, died = out / f"killed-{ranks}-{victim}-{moment}", False
            shutil.copytree(before, folder)
            try:
                fork(ranks, marked, folder, 2, victim, moment)
            except SystemExit:
                died = True
            trials[folder] = {"ranks": ranks, "victim": victim, "died": died}
            if not died:
                break
    fork(1, found, out / "kills.jsonl", trials)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    for turn, (ranks, _) in enumerate(WAYS):
        fork(ranks, go_on, place, turn)
    fork(2, faults, place)
    kills(place)
