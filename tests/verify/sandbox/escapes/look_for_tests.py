"""The verifier's package and data are not to be imported or found."""

for name in ("baiwen", "torch", "numpy", "pytest"):
    try:
        __import__(name)
    except ImportError:
        continue
    escaped(f"import {name}")
