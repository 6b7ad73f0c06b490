"""`baiwen upcycle DENSE --experts 64 --top-k 8 --expert-size 2560 --shared 8 --out OUT`.

A dense model folder as a mixture of experts, to be trained further (baiwen/model/upcycle.py):

    $ baiwen upcycle runs/tiny/pretrain --experts 16 --top-k 4 --expert-size 64 --shared 4 --out moe
    moe: 3.3 M parameters, 1.8 M of them active, from 1.5 M

Tensors of the dense model are read from the disk one at a time; the mixture is held once.
"""

import argparse
import shutil
from pathlib import Path

from baiwen import files, mistakes
from baiwen.errors import UserError
from baiwen.model import count, weights
from baiwen.model.upcycle import Upcycle, moe_config, upcycled

BESIDE = (  # what a model folder has beside its weights, and the mixture's will have too
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
)


def main(options: argparse.Namespace) -> None:
    """Write the folder, whole or not at all, and say how large the mixture is."""
    dense, out = Path(options.model), Path(options.out)
    if not dense.exists():
        raise UserError(mistakes.missing("model", dense))
    if out.exists():
        raise UserError(f"{out} is there already: give another --out, or delete it")
    before = weights.read_config(dense)
    knobs = Upcycle(**{name: getattr(options, name) for name in Upcycle.__dataclass_fields__})
    after = moe_config(before, knobs)
    with files.writing_folder(out) as folder:
        state = dict(upcycled(weights.stream(dense), before, knobs))
        weights.save(state, after, folder)
        for name in BESIDE:
            if (dense / name).is_file():
                shutil.copyfile(dense / name, folder / name)
    total, active = count.parameters(after).total, count.parameters(after).active
    source = count.parameters(before).total
    print(f"{out}: {_size(total)} parameters, {_size(active)} of them active, from {_size(source)}")


def _size(number: int) -> str:
    return f"{number / 1e9:.2f} B" if number >= 1e9 else f"{number / 1e6:.1f} M"
