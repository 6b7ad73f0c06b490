"""Inside the sandbox: run a program on one standard input after the other; hand out what it prints.

Reads a header of 16 characters, the length of the JSON object that follows; writes the nonce, and

    {"nonce": "5f1c", "source": "print(int(input()) + 1)", "stdin": ["1", "41"], "most": 65536}
    {"results": [{"stdout": "2\\n", "exit": 0}, {"stdout": "42\\n", "exit": 0}]}

Each case is a process of its own, whose files 0 and 1 are plain files of the scratch folder. The
first case that ends badly is the last one to run. With "stdin": null the program takes over this
process instead, with what follows the object as its input. No expected value is known here either.
"""

import builtins
import json
import os
import sys
import types

STDIN, STDOUT = "/tmp/stdin", "/tmp/stdout"


def main() -> None:
    """Read, run each case, write."""
    given = json.loads(exactly(int(exactly(16))))
    os.write(1, f"{given['nonce']}\n".encode())
    code = compile(given["source"], "program.py", "exec")
    if given["stdin"] is None:
        return become(code)
    results = []
    for stdin in given["stdin"]:
        with open(STDIN, "w", encoding="utf-8", errors="surrogatepass", newline="") as file:
            file.write(stdin)
        child = os.fork()
        if child == 0:
            redirect()
            return become(code)
        status = os.waitpid(child, 0)[1]
        with open(STDOUT, "rb") as file:
            said = file.read(given["most"]).decode("utf-8", "replace")
        results.append({"stdout": said, "exit": os.waitstatus_to_exitcode(status)})
        if status:
            break
    sys.stdout.write(json.dumps({"results": results}))
    sys.stdout.flush()
    os._exit(0)


def exactly(count: int) -> bytes:
    """`count` bytes of standard input, and not one more: what follows is the program's."""
    data = b""
    while len(data) < count:
        data += os.read(0, count - len(data)) or sys.exit("too short an input")
    return data


def redirect() -> None:
    """The case's files as standard input and output."""
    files = os.open(STDIN, os.O_RDONLY), os.open(STDOUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for standard, file in enumerate(files):
        os.dup2(file, standard)
        os.close(file)


def become(code: types.CodeType) -> None:
    """Run the program as `__main__`."""
    sys.argv[:] = ["program.py"]
    vars(builtins).update(exit=sys.exit, quit=sys.exit)  # as `site`, left out, would have it
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    exec(code, module.__dict__)


if __name__ == "__main__":
    main()
