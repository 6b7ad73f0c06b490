"""Eight children cannot hold 200 MB each."""
# limits: memory=314572800, wall=20.0

read, write = os.pipe()
for _ in range(8):
    child = attempt(os.fork)
    if child is None:
        break
    if child == 0:
        held = attempt(bytearray, 200 * 2**20)
        if held:
            for place in range(0, len(held), 4096):
                held[place] = 1
            os.write(write, b"1")
        import time

        time.sleep(30)
        os._exit(0)
os.close(write)
import select
import time

count, until = 0, time.monotonic() + 5
while time.monotonic() < until and count < 8:
    if select.select([read], [], [], 0.2)[0]:
        count += len(os.read(read, 8)) or 100
    if count > 4 and count < 100:
        escaped(f"{count} children with 200 MB")
        break
os._exit(0)
