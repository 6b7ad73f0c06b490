"""Inputs that a program changes are its own copies."""


def add(a, b):
    add.__defaults__ = (5, 5)
    globals()["a"] = 5
    return (a, b)
