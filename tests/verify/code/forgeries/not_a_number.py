"""What is not a number is equal to no number."""


def add(a, b):
    return float("nan")
