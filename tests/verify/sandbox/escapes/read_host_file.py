"""A file that every user of the host may read is out of reach, by path and by list."""

if attempt(lambda: open(facts["secret"]).read()):
    escaped(facts["secret"])
for folder in ("/root", "/home", "/var", "/work", os.path.dirname(facts["secret"])):
    if attempt(os.listdir, folder):
        escaped(f"list of {folder}")
