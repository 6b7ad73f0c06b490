"""A program that plants files for a later run finds none of an earlier one."""

for folder in ("/tmp", "/dev/shm", "/var/tmp"):
    path = f"{folder}/baiwen-planted"
    if os.path.exists(path):
        escaped(f"found {path}")
    attempt(lambda path=path: open(path, "w").write("x"))
