"""schemathesis on `/openapi.json`: every phase, valid and invalid data, NUL included.

One of its checks is left out: that whatever the schema allows is accepted. A schema cannot say how
long the model's context is, which ids it has, or that `n` answers to so many prompts are too many.
`ABUSE=1` draws more (`make abuse`).
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("st")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not PROGRAM.exists(), reason="needs schemathesis")
def test_the_server_keeps_to_its_own_description(start, tmp_path):
    # Of thousands of requests hundreds are answered, most of them to the end of the context.
    with start(reading={"context": 96}) as served:
        keeps(served.url, tmp_path)
        assert served.engine.unfinished == 0
        assert served.engine.stats()["blocks_used"] == 0


def keeps(url, folder):
    words = [PROGRAM, "run", f"{url}/openapi.json", "--mode", "all", "--checks", "all"]
    words += ["--exclude-checks", "positive_data_acceptance", "--no-color", "--seed", "1"]
    words += ["--phases", "examples,coverage,fuzzing,stateful", "--suppress-health-check", "all"]
    words += ["--generation-allow-x00", "true", "--warnings", "off"]
    words += ["--request-timeout", "120", "--max-response-time", "120"]  # on a busy machine
    words += ["--max-examples", "500" if os.environ.get("ABUSE") else "3"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder, timeout=3600)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
