"""A fast classifier that has learned a judge's marks: several scores and a domain in one pass.

features    the words, pairs of words and outer shape of many texts at once
model       Classifier: what was learned, saved and loaded; scores of texts
training    fit: from features and marks to a classifier
marks       marks from files, and the parts of the documents to learn from and to measure on
agreement   how far it agrees with its judge on documents that it has not seen
apply       the step `classify` of a pipeline

    made, losses = fit(train, tune, rubric, Features(), Training())
    made.scores(texts)                                  # dimensions [texts, D], domains [texts, L]
"""
