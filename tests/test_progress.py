"""Marks of getting on: of the main thread, for each item."""

import threading

from baiwen import log, progress


def test_each_item_is_a_mark_and_so_is_each_that_is_tracked():
    before = progress.marks()
    assert list(progress.marked("abc")) == list(log.track("abc", "letters")) == list("abc")
    assert progress.marks() == before + 6


def test_another_thread_makes_no_mark_for_the_main_one():
    before = progress.marks()
    thread = threading.Thread(target=progress.mark)
    thread.start()
    thread.join()
    assert progress.marks() == before
