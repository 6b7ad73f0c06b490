"""`baiwen export MODEL --gguf OUT`: a model folder in a format of other programs.

    $ baiwen export runs/tiny/sft --gguf sft.gguf --type q8_0 --check
    wrote sft.gguf: q8_0, 3.1 MB
    ok    metadata      qwen2, 9 values as in config.json
    ok    tensors       26 within the rounding of their type, at most 0.0021 off
    ...

With --check the file is read back and compared with the folder (baiwen/export/compare.py); the
exit code is 1 if a comparison fails.
"""

import argparse
from pathlib import Path

from baiwen import mistakes
from baiwen.errors import UserError
from baiwen.export import gguf
from baiwen.export.compare import compare


def main(options: argparse.Namespace) -> int:
    """Write the file and say how large it is; 1 if the check finds a fault."""
    model, out = Path(options.model), Path(options.gguf)
    if not model.exists():
        raise UserError(mistakes.missing("model", model))
    gguf.write(model, out, options.type)
    print(f"wrote {out}: {options.type}, {out.stat().st_size / 1e6:,.1f} MB")
    faults = 0
    for finding in compare(model, out) if options.check else ():
        print(f"{finding.state:5} {finding.what:13} {finding.told}")
        faults += finding.state == "fault"
    return int(faults > 0)
