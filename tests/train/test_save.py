"""What one rank cannot write is told on the others as what it is: a mistake, or what may pass."""

import errno

import pytest
import torch
from torch.distributed import HashStore

from baiwen.dist import World
from baiwen.errors import PassingError, UserError
from baiwen.train.checkpoint.save import FOLDER, VERDICT, Save, Words


class Refused:
    """An image that the system refuses to write."""

    def __init__(self, number):
        self.number = number

    def copy(self):
        pass

    def refuse_non_finite(self, what):
        pass

    def write(self, path):
        raise OSError(self.number, "refused")


@pytest.mark.parametrize(("number", "passing"), [(errno.EIO, True), (errno.ENOSPC, False)])
def test_a_failure_that_may_pass_is_no_mistake_on_the_other_ranks(tmp_path, number, passing):
    store = HashStore()
    worlds = [World(rank, 2, torch.device("cpu"), torch.float32, store=store) for rank in range(2)]
    saves = [
        Save(tmp_path / "step", images, {}, {"step": 1, "random": {}}, world, lambda: None)
        for world, images in zip(worlds, [{}, {"model": Refused(number)}], strict=True)
    ]
    for save in saves:
        save.join()
    assert isinstance(saves[0].error, UserError) and "rank 1: " in str(saves[0].error)
    assert isinstance(saves[0].error, PassingError) is passing
    assert str(saves[1].error) in str(saves[0].error)
    assert not list(tmp_path.iterdir())


def test_a_rank_that_cannot_write_ends_no_run_before_rank_0_has_cleaned_up(tmp_path):
    """Its loop raises what the thread leaves, and that ends the job and the cleaning with it."""
    store = HashStore()
    first, second = (
        World(rank, 2, torch.device("cpu"), torch.float32, store=store) for rank in range(2)
    )
    lead, images = Words(first), {"model": Refused(errno.EIO)}
    save = Save(tmp_path / "step", images, {}, {"step": 1, "random": {}}, second, lambda: None)
    lead.tell(FOLDER, ".")
    assert "error" in lead.hear("rank 1")
    save._thread.join(0.1)
    assert save.error is None
    lead.tell(VERDICT, None)
    save.join()
    assert "refused" in str(save.error)
