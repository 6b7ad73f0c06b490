"""What the doctor says of the places of all ranks."""

from baiwen.commands.exchange import _ranks, _versions


def place(host, device="NVIDIA H200", versions="torch 2.13.0"):
    return {"host": host, "device": device, "versions": versions}


def test_machines_are_listed_with_their_devices():
    assert _ranks([place("a"), place("a"), place("b"), place("b")]) == (
        "ok", "4 on 2 machines: a (2 x NVIDIA H200), b (2 x NVIDIA H200)"
    )  # fmt: skip


def test_machines_that_differ_are_worth_a_note():
    assert _ranks([place("a"), place("b", "NVIDIA A100")])[0] == "note"
    assert _ranks([place("a"), place("a"), place("b")])[0] == "note"


def test_a_machine_of_other_versions_is_a_fault():
    assert _versions([place("a")] * 2) == ("ok", "torch 2.13.0 on all ranks")
    found = _versions([place("a"), place("a"), place("b", versions="torch 2.11.0")])
    assert found == ("fault", "torch 2.13.0, but b has torch 2.11.0")
