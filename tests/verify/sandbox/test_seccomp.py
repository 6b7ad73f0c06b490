"""The filter of system calls, run by a small interpreter of its own, and against Linux's tables."""

import errno
import re
import struct
from pathlib import Path

import pytest

from baiwen.verify.sandbox import seccomp
from baiwen.verify.sandbox.seccomp import ALLOW, ARCHITECTURES, ERRNO, KILL, NUMBERS

EPERM = ERRNO | errno.EPERM
HEADERS = {"x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
           "aarch64": "/usr/include/asm-generic/unistd.h"}  # fmt: skip
every_machine = pytest.mark.parametrize("machine", ARCHITECTURES)


def decide(program, number, *arguments, architecture):
    """What a filter says of a call, by the kernel's rules (networking/filter)."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    steps = [*struct.iter_unpack("<HBBI", program)]
    place, word = 0, 0
    while True:
        code, true, false, operand = steps[place]
        place += 1
        if code == 0x06:  # return
            return operand
        if code == 0x20:  # load
            (word,) = struct.unpack_from("<I", data, operand)
        else:
            taken = {0x15: word == operand, 0x35: word >= operand, 0x45: word & operand}[code]
            place += true if taken else false


def ask(machine, name, *arguments, alone=False):
    number = NUMBERS[name][[*ARCHITECTURES].index(machine)]
    program = seccomp.program(machine, alone)
    return decide(program, number, *arguments, architecture=ARCHITECTURES[machine])


@every_machine
@pytest.mark.parametrize("alone", [False, True])
def test_every_listed_call_is_denied(machine, alone):
    column = [*ARCHITECTURES].index(machine)
    for name, numbers in (seccomp.DENIED | (seccomp.DENIED_ALONE if alone else {})).items():
        if numbers[column] is not None:
            assert ask(machine, name, alone=alone) == EPERM, name


@every_machine
def test_what_programs_need_is_allowed(machine):
    program = seccomp.program(machine, alone=True)
    for number in {"x86_64": (0, 1, 9, 59, 231, 318), "aarch64": (63, 64, 222, 221, 94, 278)}[
        machine
    ]:
        assert decide(program, number, architecture=ARCHITECTURES[machine]) == ALLOW


@every_machine
def test_calls_that_depend_on_their_arguments(machine):
    thread, namespace, process = 0x3D0F00, 0x10000000 | 17, 17
    assert ask(machine, "clone", thread) == ask(machine, "clone", process) == ALLOW
    assert ask(machine, "clone", namespace) == EPERM
    assert ask(machine, "clone", thread, alone=True) == ALLOW
    assert ask(machine, "clone", process, alone=True) == EPERM
    assert ask(machine, "clone", thread | 0x02000000, alone=True) == EPERM
    assert ask(machine, "clone3") == ERRNO | errno.ENOSYS
    assert ask(machine, "socket", 1) == ALLOW
    assert ask(machine, "socket", 2) == ERRNO | errno.EAFNOSUPPORT
    assert ask(machine, "socket", 1, alone=True) == EPERM
    assert ask(machine, "ioctl", 0, 0x5401) == ask(machine, "ioctl", 0, 0x5401, alone=True) == ALLOW
    assert ask(machine, "ioctl", 0, 0x5412) == ask(machine, "ioctl", 0, 0x5412 | 1 << 32) == EPERM
    assert ask(machine, "ioctl", 0, 0x8901, alone=True) == ERRNO | errno.ENOTTY
    assert ask(machine, "prlimit64", 0, alone=True) == ALLOW
    assert ask(machine, "prlimit64", 77, alone=True) == EPERM
    assert ask(machine, "fcntl", 3, 8, alone=True) == EPERM
    assert ask(machine, "fcntl", 3, 1024, alone=True) == EPERM
    assert ask(machine, "fcntl", 3, 3, alone=True) == ALLOW
    assert ask(machine, "prctl", 1, alone=True) == EPERM


@every_machine
def test_other_architectures_end_and_later_calls_do_not_exist(machine):
    program, here = seccomp.program(machine), ARCHITECTURES[machine]
    assert decide(program, 0, architecture=0x40000003) == KILL  # i386
    for number in (seccomp.UNKNOWN_FROM, 0x40000000 + 41):
        assert decide(program, number, architecture=here) == ERRNO | errno.ENOSYS


@every_machine
def test_the_numbers_are_linuxs(machine):
    if not Path(HEADERS[machine]).is_file():
        pytest.skip("needs the headers of Linux (linux-libc-dev)")
    text = Path(HEADERS[machine]).read_text()
    real = dict(re.findall(r"#define __NR(?:3264)?_(\w+) (\d+)", text))
    column = [*ARCHITECTURES].index(machine)
    ours = {name: numbers[column] for name, numbers in NUMBERS.items() if numbers[column]}
    assert {name: int(real[name]) for name in ours if name in real} == {
        name: number for name, number in ours.items() if name in real
    }
    assert len(ours.keys() - real.keys()) <= 4  # headers that are older, or fewer per architecture
