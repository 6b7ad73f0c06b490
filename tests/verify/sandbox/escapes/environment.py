"""The environment of the parent and of others is not to be seen."""

places = ["self", str(os.getppid()), "1", str(facts["victim"])]
texts = [attempt(lambda p=p: open(f"/proc/{p}/environ").read()) or "" for p in places]
if facts["environment"] in str(dict(os.environ)) + "".join(texts):
    escaped("the environment")
