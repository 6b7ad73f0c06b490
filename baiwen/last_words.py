"""What a process among many says before it ends: once a machine, and where torchrun looks for it.

    if first_to_say(text):             # the eight ranks of a machine make the same mistake alike
        print(text, file=sys.stderr)
    leave(text)                        # torchrun ends its own report with it

torchrun names a file to each of its workers, LOGS/JOB/attempt_N/RANK/error.json, in
TORCHELASTIC_ERROR_FILE; its form is that of `torch/distributed/elastic/multiprocessing/errors`.
"""

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path


def leave(text: str) -> None:
    """Write `text` for torchrun's report, if there is a torchrun."""
    path = _file()
    if path is not None:
        more = {"py_callstack": text, "timestamp": str(int(time.time()))}
        with suppress(OSError):  # the disk is full, perhaps; what was to be said is on the terminal
            path.write_text(json.dumps({"message": {"message": text, "extraInfo": more}}))


def first_to_say(text: str) -> bool:
    """Whether no other worker of this torchrun has said `text` since it last started them."""
    path = _file()
    if path is None:
        return True
    said = path.parents[1] / f"said-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    try:
        said.touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError:  # rather twice than never
        return True
    return True


def _file() -> Path | None:
    name = os.environ.get("TORCHELASTIC_ERROR_FILE", os.devnull)
    return None if name == os.devnull else Path(name)
