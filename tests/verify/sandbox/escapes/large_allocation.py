"""No process has more memory than the limit."""
# limits: memory=134217728

for size in (2**28, 2**32):
    if attempt(bytearray, size):
        escaped(f"{size} bytes")
