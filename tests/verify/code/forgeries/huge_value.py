"""A value that has no end is no value."""


def add(a, b):
    loop = []
    loop.append(loop)
    return loop
