"""Baiwen: the Qwen2.5 recipe, end to end."""
