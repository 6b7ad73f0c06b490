import numpy as np
import pytest

from baiwen.errors import UserError
from baiwen.scaling.grid import Runs, cells, doubts, near_best, read

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


def test_a_run_is_named_by_its_place_in_the_table(tmp_path):
    path = tmp_path / "runs.csv"
    diverged = "1e6,1e8,0.01,16,,diverged\n"
    path.write_text(f"{HEAD.strip()},state\n{diverged}1e6,1e8,0.01,16,nan,finished\n")
    with pytest.raises(UserError, match=r"run 2: smooth loss is 'nan'.*leave out"):
        read(path)
    path.write_text(f"{HEAD.strip()},state\n{diverged}")
    with pytest.raises(UserError, match="not one of its runs has finished"):
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


def test_of_a_mixture_the_active_parameters_are_n(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("active N," + HEAD + "1e6,4e6,1e8,0.01,16,3.5\n1e6,1e6,1e8,0.01,16,3.5\n")
    runs = read(path)
    assert runs.parameters.tolist() == [1e6, 1e6]
    assert runs.ratio.tolist() == [4, 1] and len(list(cells(runs))) == 2
    path.write_text("active N," + HEAD + "4e6,1e6,1e8,0.01,16,3.5\n")
    with pytest.raises(UserError, match="run 1: active N is more than N"):
        read(path)


def test_a_best_run_at_the_edge_of_what_was_tried_is_said():
    lr, batch = np.array([0.1, 0.2, 0.3]), np.full(3, 64.0)
    same = np.ones(3)
    inside = Runs(same, same, lr, batch, np.array([3.1, 3.0, 3.1]))
    outside = Runs(same, same, lr, batch, np.array([3.2, 3.1, 3.0]))
    assert not list(doubts(inside))
    (told,) = doubts(outside)
    assert "the best learning rate, 0.3, is the most that was tried" in told


def test_a_cell_of_one_run_is_said():
    """As where D is what each run saw, and no two are of one cell."""
    size, tokens = np.array([1.0, 1, 1, 2]), np.array([5.0, 6, 6, 6])
    lr = np.array([0.1, 0.1, 0.1, 0.1])
    (told,) = doubts(Runs(size, tokens, lr, lr, np.array([3.1, 3.0, 3.1, 3.0])))
    assert told.startswith("2 of 3 cells have a single run")
