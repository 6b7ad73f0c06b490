import numpy as np
import pytest

from baiwen.errors import UserError
from baiwen.scaling.grid import Runs, cells, near_best, read

HEAD = "N,D,lr,bs,smooth loss\n"


def test_a_batch_is_counted_in_tokens(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(HEAD + "1e6,1e8,0.01,16,3.5\n")
    assert read(path).batch.tolist() == [16 * 2048]


@pytest.mark.parametrize("value", ["nan", "0", "-1", "much", "inf", ""])
def test_a_number_that_is_none_is_named(tmp_path, value):
    path = tmp_path / "runs.csv"
    path.write_text(HEAD + f"1e6,1e8,0.01,16,3.5\n1e6,1e8,{value},16,3.5\n")
    with pytest.raises(UserError, match=r"run 2: lr is"):
        read(path)


def test_a_column_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("N,D,lr,bs\n1,1,1,1\n")
    with pytest.raises(UserError, match="no column 'smooth loss'"):
        read(path)


def test_near_the_best_is_by_cell():
    loss = np.array([3.0, 3.007, 3.008, 2.0, 2.1])
    size = np.array([1.0, 1, 1, 2, 2])
    runs = Runs(size, np.ones(5), np.ones(5), np.ones(5), loss)
    assert [cell.tolist() for cell in cells(runs)] == [[0, 1, 2], [3, 4]]
    assert near_best(runs, 0.0025).tolist() == [0, 1, 3]
