"""A report of great depth is refused, and stops nobody."""

import os


def add(a, b):
    text = b'{"results": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    for number in range(3, 8):
        try:
            os.write(number, text)
        except OSError:
            pass
    os._exit(0)
