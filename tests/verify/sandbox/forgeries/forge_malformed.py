"""Codes of no value raise nothing outside."""

import os

BAD = b"""[{"int": []}, {"float": {}}, {"tuple": 5}]|[{}, {"a": 1, "b": 2}, {"set": [[{"x": 1}]]}]|
[{"set": 3}, {"dict": [1]}, {"dict": [[1, 2, 3]]}]|[{"complex": ["1"]}, {"bytes": 7}, null]""".split(b"|")


def add(a, b):
    os.write(3, b'{"results": ' + BAD[a % 4].strip() + b"}")
    os._exit(0)
