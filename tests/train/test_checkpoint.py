"""Checkpoints: whole or not there, finite, few, and enough to go on in the same bits."""

import math
import resource
import threading

import pytest
import torch

from baiwen import files
from baiwen.errors import UserError
from baiwen.train import checkpoint
from baiwen.train.checkpoint import Checkpoints, Saved
from baiwen.train.checkpoint.image import Image
from baiwen.train.optim import Optim, build

FILES = ["model-00000.safetensors", "optimizer-00000.safetensors", "state.json", "tensors.json"]


@pytest.fixture
def made(tiny, world, tmp_path):
    """A model after a step, its optimizers and the checkpoints of a folder."""
    model = tiny.model()
    optimizers = build(model, Optim(muon=True))
    model(torch.zeros(1, 4, dtype=torch.long)).hidden.sum().backward()
    for optimizer in optimizers:
        optimizer.step()
    return model, Checkpoints(tmp_path / "state", model, optimizers, world, keep=2)


def save(checkpoints, *steps, heldout=None):
    for step in steps:
        checkpoints.save(step, {"heldout": heldout})
        checkpoints.wait()


def test_everything_comes_back_in_the_same_bits(made, tiny, world):
    model, checkpoints = made
    save(checkpoints, 5)
    torch.manual_seed(1)
    fresh = tiny.model(seed=1)
    optimizers = build(fresh, Optim(muon=True))
    again = Checkpoints(checkpoints.folder, fresh, optimizers, world)
    assert again.resume()["step"] == 5
    for left, right in zip(model.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(left, right)
    kept = dict(checkpoint.optimizer_tensors(model, checkpoints.optimizers))
    found = dict(checkpoint.optimizer_tensors(fresh, optimizers))
    assert kept.keys() == found.keys() and len(kept) > 20
    assert all(torch.equal(kept[name], found[name]) for name in kept)


def test_the_random_state_comes_back(made):
    _, checkpoints = made
    save(checkpoints, 5)
    expected = torch.rand(3)
    checkpoints.resume()
    assert torch.equal(torch.rand(3), expected)


def test_training_goes_on_while_a_checkpoint_is_written(made, monkeypatch):
    model, checkpoints = made
    gate, real = threading.Event(), Image.write
    monkeypatch.setattr(Image, "write", lambda *a: (gate.wait(10), real(*a))[1])
    before = model.model.norm.weight.detach().clone()
    checkpoints.save(5, {"heldout": None})
    for optimizer in checkpoints.optimizers:
        optimizer.step()
    assert not torch.equal(model.model.norm.weight, before)
    gate.set()
    checkpoints.wait()
    with Saved(checkpoints.folder / "step-00000005") as saved:
        assert torch.equal(saved.whole("model.norm.weight"), before)


def test_an_optimizer_waits_until_its_state_is_copied(made, monkeypatch):
    model, checkpoints = made
    gate, real = threading.Event(), Image.copy
    monkeypatch.setattr(Image, "copy", lambda *a: (gate.wait(10), real(*a)))
    before = model.model.norm.weight.detach().clone()
    checkpoints.save(5, {"heldout": None})
    step = threading.Thread(target=checkpoints.optimizers[0].step)
    step.start()
    step.join(0.1)
    assert step.is_alive() and torch.equal(model.model.norm.weight, before)
    gate.set()
    step.join()
    checkpoints.wait()
    with Saved(checkpoints.folder / "step-00000005") as saved:
        assert torch.equal(saved.whole("model.norm.weight"), before)


def test_the_last_ones_and_the_best_are_kept(made):
    _, checkpoints = made
    for step, loss in ((1, math.nan), (2, 1.0), (3, 2.0), (4, 1.5), (5, None)):
        save(checkpoints, step, heldout=loss)
    assert checkpoints.steps() == [2, 4, 5]
    assert checkpoints.best().name == "step-00000002"


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(made, name, capsys):
    _, checkpoints = made
    save(checkpoints, 1, 2)
    path = checkpoints.folder / "step-00000002" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert checkpoints.resume()["step"] == 1
    save(checkpoints, 2)
    files.check(checkpoints.folder / "step-00000002")
    told = capsys.readouterr().err
    assert "step 2 passed over" in told and name in told


def test_no_whole_checkpoint_is_an_error_and_no_fresh_start(made):
    _, checkpoints = made
    save(checkpoints, 1)
    (checkpoints.folder / "step-00000001" / "manifest.json").unlink()
    with pytest.raises(UserError, match="not one of its 1 checkpoints is whole"):
        checkpoints.resume()


def test_a_checkpoint_of_another_version_is_refused_and_kept(made):
    _, checkpoints = made
    folder = checkpoints.folder / "step-00000007"
    folder.mkdir(parents=True)
    files.write_json(folder / "state.json", {"step": 7})
    files.seal(folder)
    with pytest.raises(UserError, match=r"step-00000007 has no tensors\.json: another version"):
        checkpoints.resume()
    files.check(folder)


def test_a_model_of_another_shape_is_told_which_tensor_differs(made, tiny, world):
    _, checkpoints = made
    save(checkpoints, 1)
    wider = tiny.model(tiny.dataclasses.replace(tiny.CONFIG, intermediate_size=64))
    again = Checkpoints(checkpoints.folder, wider, build(wider, Optim()), world)
    told = r"gate_proj\.weight has the shape \[48, 32\], but the model of this run has \[64, 32\]"
    with pytest.raises(UserError, match=told):
        again.resume()


def test_nothing_that_is_not_finite_is_written(made):
    model, checkpoints = made
    save(checkpoints, 1)
    with torch.no_grad():
        model.model.norm.weight[3] = torch.nan
    with pytest.raises(UserError, match=r"step 2: model\.norm\.weight holds NaN"):
        save(checkpoints, 2)
    assert checkpoints.steps() == [1]


@pytest.mark.parametrize("later", ["save", "step"])
def test_what_fails_in_the_thread_is_raised_in_the_loop(made, later):
    """The system refuses the bytes of a file, as it does on a full disk."""
    _, checkpoints = made
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        checkpoints.save(1, {"heldout": None})
        checkpoints._save.join()
        with pytest.raises(
            UserError, match=r"cannot write .*step-00000001: the file passes the si"
        ):
            if later == "save":
                checkpoints.save(2, {"heldout": None})
            else:
                checkpoints.optimizers[0].step()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert checkpoints.steps() == [] == list(checkpoints.folder.iterdir())


def test_a_checkpoint_holds_safetensors_and_json_only(made):
    _, checkpoints = made
    save(checkpoints, 1)
    folder = checkpoints.folder / "step-00000001"
    files.check(folder)
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json"}
