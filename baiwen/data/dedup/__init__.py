"""Duplicates: documents, lines and paragraphs that the corpus has more than once.

exact      documents of one text, the same but for white space or to the byte
near       documents that share most of their words in a row: MinHash, then verified pair by pair
lines      lines or paragraphs of prose beyond the first of the corpus, taken out of the texts

minhash    signatures of documents, whose bands are equal for similar ones
groups     union-find: which documents have to be compared with each other
rows       documents of earlier runs and of this one, numbered through; which of several is kept
spill      numbers on disk that would be too many for memory
"""
