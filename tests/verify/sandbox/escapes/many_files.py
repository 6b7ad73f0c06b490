"""A hundred thousand empty files cost what they cost, or end the run."""
# limits: memory=67108864, wall=20.0
# ends: A=exit|memory, B=memory|exit, C=exit

for number in range(100_000):
    try:
        os.close(os.open(f"/tmp/{number}", os.O_CREAT | os.O_WRONLY))
    except OSError:
        break
else:
    escaped("100,000 files in 64 MB")
