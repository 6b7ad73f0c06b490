"""The roots, folders and files of other processes lead nowhere."""

for process in ("self", "1", str(os.getppid()), str(facts["victim"])):
    for place in ("root", "cwd"):
        path = f"/proc/{process}/{place}{facts['secret']}"
        if attempt(lambda path=path: open(path).read(1)):
            escaped(path)
    for number in range(100):
        path = f"/proc/{process}/fd/{number}"
        if attempt(os.listdir, path):
            escaped(path)
