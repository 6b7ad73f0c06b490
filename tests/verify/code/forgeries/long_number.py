"""A number of a million digits is refused, and stops nobody."""

import os


def add(a, b):
    for number in range(3, 8):
        try:
            os.write(number, b'{"results": [' + b"9" * 1_000_000 + b", 1, 1]}")
        except OSError:
            pass
    os._exit(0)
