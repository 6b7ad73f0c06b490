"""Codes of no value raise nothing outside."""

import os

BAD = [
    b'[{"int": []}, {"float": {}}, {"tuple": 5}]',
    b'[{}, {"a": 1, "b": 2}, {"set": [[{"x": 1}]]}]',
    b'[{"set": 3}, {"dict": [1]}, {"dict": [[1, 2, 3]]}]',
    b'[{"complex": ["1"]}, {"bytes": 7}, null]',
]


def add(a, b):
    os.write(3, b'{"results": ' + BAD[os.getpid() % 4] + b"}")
    os._exit(0)
