"""A pipeline of steps over documents on disk: see `step.py`, then `run.py`."""
