"""Jobs of two and three ranks in which something goes wrong, each in forks of this process.

    python tests/dist/watched.py FOLDER        # writes FOLDER/JOB.json: how each rank ended

This process plays torchrun: it starts the ranks, keeps their store in a process of its own, names
them an error file, and waits. All jobs run at once, since their ranks do little but wait.
"""

import ctypes
import json
import math
import os
import signal
import sys
import time
from pathlib import Path

import torch
from torch.distributed import TCPStore

from baiwen import cli, dist, progress
from baiwen.commands import doctor, exchange
from baiwen.dist import verdict, watch
from baiwen.errors import UserError
from baiwen.train.guard import stopping

TIMEOUT = 6.0  # seconds that a rank may stand still in these jobs, on a machine that is busy
LIMIT = 150.0  # seconds after which a job that does not end is killed


def killed(world):
    """Rank 1 is killed in the middle."""
    summing(world, lambda step: step == 20 and world.rank == 1 and end(signal.SIGKILL))


def crashed(world):
    """Rank 0 crashes in native code."""
    summing(world, lambda step: step == 20 and world.rank == 0 and ctypes.string_at(0))


def hung(world):
    """Rank 2 comes to no end."""
    summing(world, lambda step: step == 20 and world.rank == 2 and stand_still(world))


def stopped(world):
    """Rank 0 does nothing more, its threads included."""
    summing(world, lambda step: step == 20 and world.rank == 0 and end(signal.SIGSTOP))


def mistaken(world):
    """Rank 1 finds a mistake of the user's."""
    summing(world, lambda step: step == 20 and world.rank == 1 and refuse("steps = 3 is too few"))


def all_mistaken(world):
    """All ranks find it."""
    summing(world, lambda step: step == 20 and refuse("steps = 4 is too few"))


def failed(world):
    """Rank 1 finds a mistake of ours."""
    summing(world, lambda step: step == 20 and world.rank == 1 and [][0])


def asked(world):
    """Rank 1 alone is asked to end, as the training loop hears it."""
    with stopping() as stop:
        for step in range(1, 1000):
            world.at("summing", step)
            if step == 20 and world.rank == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            if any(dist.agreed(world, stop.signal != 0)):
                raise SystemExit(128 + signal.SIGTERM)


def examined(world):
    """Nothing is wrong: what the doctor finds of the exchange between ranks."""
    found = exchange.findings(world)
    if world.main:
        print(json.dumps(found))


def patient(world):
    """Nothing is wrong: rank 0 writes for long, rank 1 rolls out for long, all were suspended."""
    if world.main:
        time.sleep(1.3 * TIMEOUT)
    dist.barrier(world)
    world.at("rolling out")
    for _ in progress.marked(range(13 * world.rank)):
        time.sleep(TIMEOUT / 10)
    dist.catch_up(world)
    summing(world, lambda _: None)
    Path(f"{os.environ['JOB']}.ready-{world.rank}").touch()
    while not Path(f"{os.environ['JOB']}.resumed").exists():
        time.sleep(0.05)  # the process that plays torchrun suspends the job
    summing(world, lambda _: None)


def stuck(world):
    """Rank 1 comes to no end of what the others wait for at `catch_up`."""
    if world.rank == 1:
        stand_still(world)
    dist.catch_up(world)


def storeless(world):
    """The machine with the store goes: it answers no more."""
    verdict.SILENT = watch.SILENT = TIMEOUT
    summing(world, lambda step: step == 20 and world.main and end(signal.SIGSTOP, "STORE"))
    time.sleep(LIMIT)


JOBS = {
    killed: 3, crashed: 2, hung: 3, stopped: 2, mistaken: 2, all_mistaken: 2, failed: 2,
    asked: 2, examined: 2, patient: 2, stuck: 2, storeless: 2,
}  # fmt: skip


def summing(world, trouble, steps=30):
    """Steps that wait for each other."""
    for step in range(1, steps + 1):
        world.at("summing", step)
        dist.sum_over(world, torch.ones(4))
        trouble(step)


def stand_still(world):
    world.at("reading rows")
    time.sleep(LIMIT)


def refuse(text):
    raise UserError(text)


def end(number, whom="SELF"):
    Path(f"{os.environ['JOB']}.end").touch()  # whose time is that of the trouble
    os.kill(int(os.environ.get(whom, os.getpid())), number)
    time.sleep(0.2)


def fork(work, log):
    """A child that works and writes what it prints to `log`."""
    child = os.fork()
    if child:
        return child
    file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    code = 1
    try:
        code = work()
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code or 0)


def keep_store(path):
    """The store of a job, as torchrun's agent keeps it, on a port that it finds free."""
    kept = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    Path(f"{path}.writing").write_text(str(kept.port))
    os.rename(f"{path}.writing", f"{path}.port")
    time.sleep(3 * LIMIT)


def rank_of(job, rank, settings):
    """A rank of `job`, by the door of the command line, which says what went wrong."""

    def body(_):
        with dist.session("cpu", "float32", threads=1, timeout=TIMEOUT) as world:
            job(world)

    os.environ |= settings | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ["TORCHELASTIC_ERROR_FILE"] = error_file(settings["JOB"], rank)
    doctor.main = body
    return cli.main(["doctor"])


def error_file(job, rank):
    path = Path(f"{job}.logs") / str(rank) / "error.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    return str(path)


class Job:
    """Its ranks, as processes, and what has become of them."""

    def __init__(self, folder, work, ranks):
        self.name, self.path = work.__name__, folder / work.__name__
        self.store = fork(lambda: keep_store(self.path), f"{self.path}.store")
        while not (port := Path(f"{self.path}.port")).exists():
            time.sleep(0.01)
        settings = {
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port.read_text(), "WORLD_SIZE": str(ranks),
            "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RUN_ID": self.name,
            "GROUP_WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": str(ranks),
            "JOB": str(self.path), "STORE": str(self.store),
        }  # fmt: skip
        self.pids = [
            fork(lambda rank=rank: rank_of(work, rank, settings), f"{self.path}.{rank}")
            for rank in range(ranks)
        ]
        self.ends = {}  # of each rank: its exit code, and when
        self.suspended = None  # since when, if it has been

    def over(self):
        """Whether all ranks have ended; notes those that have."""
        for rank, pid in enumerate(self.pids):
            if rank not in self.ends:
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    self.ends[rank] = (os.waitstatus_to_exitcode(status), time.time())
        if not self.suspended and len(list(self.path.parent.glob(f"{self.name}.ready-*"))) == 2:
            self.signal(signal.SIGSTOP)
            self.suspended = time.time()
        elif self.suspended and time.time() > self.suspended + 1.3 * TIMEOUT:
            self.suspended = math.inf
            self.signal(signal.SIGCONT)
            Path(f"{self.path}.resumed").touch()
        return len(self.ends) == len(self.pids)

    def signal(self, number):
        """Send it to all ranks that are left."""
        for rank, pid in enumerate(self.pids):
            if rank not in self.ends:
                os.kill(pid, number)

    def told(self):
        """What is to be known of it, as JSON."""
        trouble = Path(f"{self.path}.end")
        began = trouble.stat().st_mtime if trouble.exists() else None
        return {
            "codes": [self.ends[rank][0] for rank in range(len(self.pids))],
            "seconds": [self.ends[rank][1] - began for rank in range(len(self.pids))]
            if began
            else [],
            "printed": [Path(f"{self.path}.{rank}").read_text() for rank in range(len(self.pids))],
            "left": [
                path.read_text() for path in sorted(Path(f"{self.path}.logs").glob("*/error.json"))
            ],
            "pids": self.pids,
        }


def main(folder):
    """Run all jobs at once."""
    jobs = [Job(folder, work, ranks) for work, ranks in JOBS.items()]
    deadline = time.time() + LIMIT
    while sum(job.over() for job in jobs) < len(jobs):
        if time.time() > deadline:
            for job in jobs:
                job.signal(signal.SIGKILL)
            deadline += LIMIT
        time.sleep(0.05)
    for job in jobs:
        os.kill(job.store, signal.SIGKILL)
        (folder / f"{job.name}.json").write_text(json.dumps(job.told()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
