"""Text, messages and code to tokens and back, in the form of Qwen2.5.

from baiwen.tokenizer import Tokenizer, train
tokenizer = train(texts, vocab_size=4096)
tokenizer.save("runs/tiny/tokenizer")
"""

from baiwen.tokenizer.bpe import train
from baiwen.tokenizer.chat import Piece
from baiwen.tokenizer.parse import Parsed
from baiwen.tokenizer.stream import StreamDecoder
from baiwen.tokenizer.tokenizer import Rendered, Tokenizer

__all__ = ["Parsed", "Piece", "Rendered", "StreamDecoder", "Tokenizer", "train"]
