"""Training: documents to a vocabulary of any size (report: 151,643 regular tokens).

    tokenizer = train((document["text"] for document in documents), vocab_size=151_643)

The `tokenizers` library counts the words of the text as it streams by and merges the most frequent
pair of neighbours, again and again (Sennrich et al., 2016). Memory holds the distinct words with
their counts, never the text. Ties go to the pair with the smaller ids, so the same text gives the
same files, byte for byte, on any number of threads.
"""

import json
from collections.abc import Iterable

from tokenizers import models, trainers

from baiwen.errors import UserError
from baiwen.tokenizer.tokenizer import Tokenizer
from baiwen.tokenizer.vocabulary import SYMBOLS, Vocabulary, backend


def train(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A tokenizer of exactly `vocab_size` regular tokens (bytes, merges) and 22 control tokens.

    `UserError` if the text has too few pairs for that many merges, or half a character.
    """
    if vocab_size < len(SYMBOLS):
        raise UserError(f"vocab_size = {vocab_size}: must be at least {len(SYMBOLS)}, one a byte")
    pipeline = backend(models.BPE())
    # The trainer sorts the alphabet by symbol, which is the order of the published ids: "!" is 0.
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=list(SYMBOLS), show_progress=False
    )
    try:
        pipeline.train_from_iterator(texts, trainer)
    except UnicodeEncodeError as error:
        raise UserError(
            f"a text to train on holds a lone surrogate: {error.object!r:.80}"
        ) from error
    model = json.loads(pipeline.to_str())["model"]
    tokens = tuple(sorted(model["vocab"], key=model["vocab"].__getitem__))
    if len(tokens) < vocab_size:
        raise UserError(
            f"vocab_size = {vocab_size:,}: the text gives only {len(tokens) - len(SYMBOLS):,} "
            f"merges, so at most {len(tokens):,} tokens.\n"
            f"Train on more text, or set vocab_size to at most {len(tokens):,}."
        )
    return Tokenizer(Vocabulary(tokens, tuple((left, right) for left, right in model["merges"])))
