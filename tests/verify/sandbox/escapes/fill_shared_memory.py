"""The folder of shared memory is full at its size."""

written = 0
for number in range(100):
    file = attempt(open, f"/dev/shm/{facts['mark']}{number}", "wb", buffering=0)
    while file and written < 2**28:
        count = attempt(file.write, bytes(2**20))
        if not count:
            break
        written += count
if written > 17 * 2**20:
    escaped(f"{written} bytes")
