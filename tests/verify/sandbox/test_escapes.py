"""Attacks on the sandbox, each a program of `escapes/`: none gets out, at any level that runs here.

An escape's docstring says what must hold. Its comments may set `limits`, and say how the run `ends`
("exit" is by itself; "A=memory, B=wall|cpu" by level). It shouts where it got through; what it may
have done to the host is looked at from here.
"""

import ast
import contextlib
import os
import re
import secrets
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from baiwen.verify import sandbox
from baiwen.verify.sandbox import Limits, jail

HERE = Path(__file__).parent
PRELUDE = (HERE / "prelude.py").read_text()
ESCAPES = {path.stem: path.read_text() for path in sorted((HERE / "escapes").glob("*.py"))}
STRAY = ("/usr/baiwen-escape", "/var/tmp/baiwen-escape")
SECRET = f"baiwen-secret-{os.getpid()}"  # of our environment
QUIET = Limits(cpu=10, wall=120.0)
AT_ONCE = 6  # attacks: most of them wait, for the kernel or for a limit
# Harmless outside, and there they do get through: proof that the shouting works.
CONTROLS = ("abstract_socket", "environment", "path_socket", "read_host_file", "tcp_connect",
            "tcp_listen", "inherited_descriptors", "raise_limits", "kernel_memory")  # fmt: skip


class Host:
    """What an escape could get hold of: files, sockets, a process; and what became of it."""

    def __init__(self, folder, stack):
        number = secrets.randbits(60)
        self.folder, self.mark, self.seconds = folder, f"mark{number}", f"600.{number}"
        folder.chmod(0o755)
        (folder / "secret").write_text("secret")
        self.open = folder / "open"
        self.open.mkdir(mode=0o777)
        self.open.chmod(0o777)
        self.owned = folder / "owned"
        self.owned.write_text("mine")
        if os.getuid() == 0:
            os.chown(self.owned, jail.NOBODY, jail.NOBODY)
        self.tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.udp = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        self.udp.bind(("127.0.0.1", 0))
        self.servers = [self.tcp]
        for address in (f"\0{self.mark}", str(folder / "socket")):
            server = stack.enter_context(socket.socket(socket.AF_UNIX))
            server.bind(address)
            server.listen()
            self.servers.append(server)
        self.datagrams = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        self.datagrams.bind(str(folder / "datagram"))
        for name in ("socket", "datagram"):
            (folder / name).chmod(0o777)
        for server in (*self.servers, self.udp, self.datagrams):
            server.setblocking(False)
        user = {"user": jail.NOBODY, "group": jail.NOBODY} if os.getuid() == 0 else {}
        self.victim = stack.enter_context(
            subprocess.Popen(["sleep", "600"], env={"MARK": self.mark}, cwd="/", **user)
        )
        stack.callback(self.victim.kill)
        self.before = self.state()

    def facts(self):
        return {
            "secret": str(self.folder / "secret"),
            "folder": str(self.open),
            "owned": str(self.owned),
            "port": self.tcp.getsockname()[1],
            "udp": self.udp.getsockname()[1],
            "abstract": self.mark,
            "socket": str(self.folder / "socket"),
            "datagram": str(self.folder / "datagram"),
            "victim": self.victim.pid,
            "parent": os.getpid(),
            "mark": self.mark,
            "environment": SECRET,
            "seconds": self.seconds,
        }

    def state(self):
        """All that an escape might have changed."""
        owned, victim = self.owned.stat(), Path("/proc", str(self.victim.pid))
        return {
            "open": sorted(self.open.iterdir()),
            "owned": (self.owned.read_text(), owned.st_mode, owned.st_mtime_ns),
            "attributes": os.listxattr(self.owned),
            "shared memory": [name for name in os.listdir("/dev/shm") if self.mark in name],
            "stray": [path for path in STRAY if Path(path).exists()],
            "heard": [heard for server in self.servers if (heard := accepted(server))],
            "told": [told for server in (self.udp, self.datagrams) if (told := received(server))],
            "victim": (self.victim.poll(), (victim / "stat").read_text().split()[2] == "T"),
            "limits": (victim / "limits").read_text(),
            "priority": os.getpriority(os.PRIO_PROCESS, self.victim.pid),
            "daemon": left_over(self.seconds),
        }  # fmt: skip


def accepted(server):
    try:
        return server.accept()
    except BlockingIOError:
        return None


def received(server):
    try:
        return server.recv(100)
    except BlockingIOError:
        return None


def left_over(argument):
    """Processes with an argument that no other process has."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if argument.encode() in words:
            found.append(path.parent.name)
    return found


@pytest.fixture(scope="module", autouse=True)
def secret():
    """A word of our environment, which an attack looks for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAIWEN_SECRET", SECRET)
        yield


@contextlib.contextmanager
def opened(folder):
    """A host in a folder that everybody may pass."""
    for place in (folder, *folder.parents):
        if place.stat().st_uid == os.getuid() and place != Path("/"):
            with contextlib.suppress(PermissionError):
                place.chmod(place.stat().st_mode | 0o011)
    with contextlib.ExitStack() as stack:
        yield Host(folder, stack)


def attacked(name, level, folder):
    """What came of an attack, and the state of its host before and after."""
    text = ESCAPES[name]
    limits = {key: ast.literal_eval(value) for key, value in comment(text, "limits").items()}
    with opened(folder) as host:
        stdin = repr(host.facts()).encode() + b"\n" + bytes(2**20)
        found = sandbox.run(
            PRELUDE + text, stdin, limits=Limits(**vars(QUIET) | limits), level=level
        )
        return found, host.before, host.state()


@pytest.fixture(scope="module", params=sandbox.LEVELS)
def attacks(request, tmp_path_factory):
    """A level, and what comes of each attack at it: a few are made at once."""
    level = request.param
    if reason := sandbox.unusable(level):
        pytest.skip(f"level {level} does not run here: {reason}")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield (
            level,
            {
                name: pool.submit(attacked, name, level, tmp_path_factory.mktemp(name))
                for name in ESCAPES
            },
        )


def comment(text, name):
    """`# limits: cpu=1, wall=3.0` -> {"cpu": "1", "wall": "3.0"}; a word alone is under ""."""
    found = re.search(rf"^# {name}: (.*)$", text, re.MULTILINE)
    parts = found[1].split(", ") if found else []
    return {key: value for key, _, value in (part.rpartition("=") for part in parts)}


@pytest.mark.parametrize("name", ESCAPES)
def test_no_escape(name, attacks):
    level, made = attacks
    result, before, after = made[name].result()
    assert b"ESCAPED" not in result.stdout, result.stdout
    assert b"SyntaxError" not in result.stderr and b"NameError" not in result.stderr, result.stderr
    assert after == before
    ends = comment(ESCAPES[name], "ends")
    if ends:
        wanted = ends.get(level, ends.get("", "")).split("|")
        assert (result.limit or "exit") in wanted, result
    assert result.level == level
    assert len(result.stdout) <= Limits().output + 2**16 and len(result.stderr) <= 2**14


@pytest.mark.parametrize("name", CONTROLS)
def test_an_escape_shouts_where_nothing_holds_it(name, tmp_path):
    with opened(tmp_path) as host:
        done = subprocess.run(
            [sys.executable, "-c", PRELUDE + ESCAPES[name]],
            input=repr(host.facts()).encode(),
            capture_output=True,
            timeout=120,
            pass_fds=[host.tcp.fileno()],
        )
    assert b"ESCAPED" in done.stdout, done.stderr


def test_the_bank_is_large():
    assert len(ESCAPES) >= 40


def test_every_attack_says_what_must_hold():
    for name, source in ESCAPES.items():
        assert ast.get_docstring(ast.parse(source)), name
