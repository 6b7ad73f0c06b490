"""Procedural tasks for SFT: one file a kind, each with `produce(rng) -> Task`; see `task.py`."""
