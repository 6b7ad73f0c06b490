"""A link to a file outside opens nothing."""

for make in (os.symlink, os.link):
    for target in ("/etc/shadow", facts["secret"], "/proc/1/root" + facts["secret"]):
        name = f"/tmp/{make.__name__}-{abs(hash(target))}"
        attempt(make, target, name)
        if attempt(lambda name=name: open(name).read(1)):
            escaped(f"{make.__name__} to {target}")
