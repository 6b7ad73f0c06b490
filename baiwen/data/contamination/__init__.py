"""Contamination: evaluation texts in documents and conversations to train on.

evaluations     what evaluation files hold, as sequences of words
index           where n-grams of documents stand in them
candidates      stretches of documents that may be copies of tests
subsequence     the longest common subsequence of two sequences
decontaminate   the report's rule and Coder's, as a step of a pipeline
"""
