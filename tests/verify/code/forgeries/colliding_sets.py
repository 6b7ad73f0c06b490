"""Sets whose elements all hash alike stop nobody."""


def add(a, b):
    return [{(2**61 - 1) * place for place in range(2000)}] * 20
