"""How much an engine can hold."""

import os

from baiwen.engine import capacity


def test_memory_that_only_caches_files_is_free(tmp_path):
    told = tmp_path / "meminfo"
    told.write_text("MemTotal:  900 kB\nMemFree:   100 kB\nMemAvailable:   700 kB\n")
    assert capacity._free(told) == 700 * 1024


def test_a_system_that_does_not_tell_is_asked_for_its_free_pages(tmp_path):
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < capacity._free(tmp_path / "none") < total
