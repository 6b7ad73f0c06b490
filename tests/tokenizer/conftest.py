"""Two tokenizers: a small one trained here, and the published one of Qwen2.5."""

import gzip
import json
import sysconfig
from pathlib import Path

import pytest

from baiwen.tokenizer import Tokenizer, train

CHINESE = "千问，一千个问题。我们用同样的方法训练模型；每一步都可以重复。数据、模型和结果都在这里。"


def library_text(names):
    folder = Path(sysconfig.get_path("stdlib"))
    return [(folder / name).read_text(encoding="utf-8") for name in names]


@pytest.fixture(scope="session")
def small():
    texts = library_text(["argparse.py", "json/decoder.py", "textwrap.py", "typing.py"])
    return train([*texts, *[CHINESE] * 5], 1_000)


@pytest.fixture(scope="session")
def qwen(shared):
    return Tokenizer.load(shared / "tokenizer" / "qwen2.5")


@pytest.fixture(scope="session")
def golden(shared):
    def rows(name):
        with gzip.open(shared / "tokenizer" / name, "rt", encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]

    return rows
