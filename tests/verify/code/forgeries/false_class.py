"""What an object says its class is does not count."""


class Liar:
    @property
    def __class__(self):
        return int

    def __int__(self):
        return 5

    __index__ = __int__

    def __eq__(self, other):
        return True


def add(a, b):
    return Liar()
