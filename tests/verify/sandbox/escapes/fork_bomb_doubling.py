"""A bomb whose processes fork on ends with the run."""
# limits: processes=16, wall=1.5, cpu=1
# ends: wall|cpu|exit

for _ in range(12):
    if attempt(os.fork) is None and os.uname():
        pass
if attempt(os.fork) is not None:
    while True:
        attempt(os.fork)
