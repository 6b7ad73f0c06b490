"""Reinforcement learning: answers are rolled out, judged, and made into batches."""
