"""The questions given back are no answers."""


def add(a, b):
    return [a, b]
