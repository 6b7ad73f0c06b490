"""Scaling laws: which learning rate, batch, size and data, from runs that cost little."""
