"""A call that exits has no output."""

import sys


def add(a, b):
    sys.exit(0)
