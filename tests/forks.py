"""Python commands, each a fork of one process that has imported torch and has run nothing.

To import torch and the stages takes five seconds of a core, a fork of a process that has them none:

    forks.run("-m", "baiwen", "run", "sft.toml").stderr           # as `subprocess.run`
    forks.run("tests/train/tiny.py", folder, ranks=2)             # as `torchrun`, without its agent
    job = forks.start("-m", "baiwen", "run", "sft.toml")
    os.kill(job.pids[0], signal.SIGTERM)
    job.wait()

What a fork is given is what it would find in a process of its own: argv, working directory,
environment, standard streams, signals as they were. A test of what starting costs, or of torchrun
itself, starts real ones.
"""

import contextlib
import ctypes
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from types import SimpleNamespace

IMPORTED = (
    "baiwen.cli",
    "baiwen.commands.run",
    "baiwen.commands.serve",
    *(f"baiwen.stages.{name}" for name in ("dpo", "grpo", "pairs", "pretrain", "reward", "sft")),
    "torch._dynamo",  # every optimizer of PyTorch imports it
)
LONGEST = 2**17  # bytes of a message: the environment above all
PARENT_DEATH = 1  # Linux: PR_SET_PDEATHSIG


class Forks:
    """The side of the tests; the process is started when it is first needed."""

    def __init__(self):
        self.line = self.process = None

    def start(self, *words, ranks=1, **environment):
        """A `Job` of so many ranks that has begun."""
        if self.process is None:
            self.line, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            command = [sys.executable, __file__, str(far.fileno())]
            environ = os.environ | {"OMP_NUM_THREADS": "1"}
            self.process = subprocess.Popen(command, pass_fds=[far.fileno()], env=environ)
            far.close()
        return Job(self.line, list(map(str, words)), ranks, environment)

    def run(self, *words, ranks=1, timeout=250, **environment):
        """The `Job` that has ended."""
        return self.start(*words, ranks=ranks, **environment).wait(timeout)

    def close(self):
        """Hang up, which ends the process and with it what still runs of its jobs."""
        if self.process is not None:
            self.line.close()
            self.process.wait()


class Job:
    """What was started: the process ids of its ranks, and what came of it once it has ended."""

    def __init__(self, line, words, ranks, environment):
        self.files = [tempfile.TemporaryFile("w+", errors="replace") for _ in range(2)]  # noqa: SIM115
        self.line, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.line.settimeout(250)
        given = {"words": words, "ranks": ranks, "cwd": os.getcwd()}
        given["environment"] = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        handed = [far.fileno(), *(file.fileno() for file in self.files)]
        socket.send_fds(line, [json.dumps(given).encode()], handed)
        far.close()
        self.pids = json.loads(self.line.recv(LONGEST))
        self.returncode = None

    def told(self):
        """What it has written to its standard output so far."""
        return os.pread(self.files[0].fileno(), 2**20, 0).decode(errors="replace")

    def kill(self, number=signal.SIGKILL):
        """A signal to every rank that has not ended."""
        for pid in self.pids if self.returncode is None else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def wait(self, timeout=250):
        """Until it has ended: `returncode` (of the first rank that failed), `stdout`, `stderr`."""
        self.line.settimeout(timeout)
        try:
            codes = json.loads(self.line.recv(LONGEST))
        except TimeoutError:
            self.kill()
            codes = json.loads(self.line.recv(LONGEST))
        self.line.close()
        self.returncode = next((code for code in codes if code), 0)
        self.stdout, self.stderr = map(read, self.files)
        return self


def read(file):
    """What others wrote into a file, which is closed."""
    with file:
        file.seek(0)
        return file.read()


def serve(line):
    """Fork who starts the ranks of each request, until the tests hang up."""
    for name in IMPORTED:
        importlib.import_module(name)
    os.fsync = os.fstat  # no disk is waited for (conftest.py)
    while (found := socket.recv_fds(line, LONGEST, 3))[0]:
        if os.fork() == 0:
            stay_with_parent()
            line.close()
            start(SimpleNamespace(**json.loads(found[0])), found[1])
            os._exit(0)
        for number in found[1]:
            os.close(number)
        forget()


def forget():
    """Those of our children that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def stay_with_parent():
    """Be killed once the parent has ended: no job outlives the tests, however those end."""
    ctypes.CDLL(None).prctl(PARENT_DEATH, signal.SIGKILL)


def start(given, numbers):
    """Start the ranks, tell their process ids, wait for them, tell how each ended."""
    line = socket.socket(fileno=numbers[0])
    store, port = keep_store() if given.ranks > 1 else (None, 0)
    pids = [fork(lambda rank=rank: work(given, rank, port, numbers)) for rank in range(given.ranks)]
    line.send(json.dumps(pids).encode())
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    if store:
        os.kill(store, signal.SIGKILL)
        os.waitpid(store, 0)
    line.send(json.dumps(codes).encode())


def keep_store():
    """The process that keeps the store of a job, as torchrun's agent does, and its port."""
    torch, (ours, theirs) = sys.modules["torch"], os.pipe()

    def keep():
        kept = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        os.write(theirs, str(kept.port).encode())
        signal.pause()

    child = fork(keep)
    port = int(os.read(ours, 9))
    os.close(ours)
    os.close(theirs)
    return child, port


def fork(body):
    """The process id of a child that runs `body` and ends with what it says is its exit code."""
    if child := os.fork():
        return child
    stay_with_parent()
    code = 1
    try:
        code = body()
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code or 0)


def work(given, rank, port, numbers):
    """A rank: what Python would do with the words, where they were typed."""
    for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), *numbers[1:])):
        os.dup2(file, number)
    for number in numbers:
        os.close(number)
    sys.stdout, sys.stderr = (open(n, "w", buffering=1, closefd=False) for n in (1, 2))  # noqa: SIM115
    os.chdir(given.cwd)
    os.environ.clear()
    os.environ.update(given.environment)
    if given.ranks > 1:
        size = str(given.ranks)
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": size,
            "LOCAL_WORLD_SIZE": size, "GROUP_WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "forks",
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
    sys.orig_argv = [sys.executable, *given.words]
    module = given.words[0] == "-m"
    name = given.words[module]
    sys.argv = [name, *given.words[1 + module :]]
    sys.path[0] = given.cwd if module else str(Path(name).parent)  # it was this file's folder
    if module:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(name, run_name="__main__")


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
