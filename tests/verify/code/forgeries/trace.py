"""A tracer may change variables, which are data."""

import sys


def tracer(frame, event, argument):
    if event == "return" and isinstance(argument, dict):
        argument.clear()
    for value in frame.f_locals.values():
        if isinstance(value, list):
            value[:] = [True] * len(value)
    return tracer


sys.settrace(tracer)
sys.setprofile(tracer)


def add(a, b):
    return 0
