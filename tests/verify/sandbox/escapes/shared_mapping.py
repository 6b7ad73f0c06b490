"""Memory that processes share counts too."""
# limits: memory=134217728, wall=20.0

import mmap

held = []
for _ in range(20):
    area = attempt(mmap.mmap, -1, 50 * 2**20)
    if area is None:
        break
    for place in range(0, len(area), 4096):
        area[place] = 1
    held.append(area)
if len(held) > 3:
    escaped(f"{len(held)} x 50 MB")
