"""Evaluation: accuracy by task, bits per byte, and what the numbers are worth."""
