"""Replaced functions of the system do not change what the parent reads."""

import os
import sys

os.write = lambda number, data: len(data)
os._exit = lambda code: None
sys.exit = lambda code=0: None


def add(a, b):
    return 0
