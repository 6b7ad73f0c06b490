"""The scratch folder is full at its size."""
# limits: scratch=8388608

written = 0
for number in range(100):
    file = attempt(open, f"/tmp/{number}", "wb", buffering=0)
    while file and written < 2**28:
        count = attempt(file.write, bytes(2**20))
        if not count:
            break
        written += count
if written > 9 * 2**20:
    escaped(f"{written} bytes")
