"""A fast classifier that has learned a judge's marks: several scores and a domain in one pass.

features    the words, pairs of words and outer shape of many texts at once
model       Classifier: what was learned, saved and loaded; scores of texts
training    fit: from features and marks to a classifier
agreement   how far it agrees with its judge on documents that it has not seen
apply       score: the step `classify` of a pipeline

    made = fit(Examples(features(texts, knobs), levels, labels), held, rubric, knobs, training)
    made.scores(texts)                                  # dimensions [texts, D], domains [texts, L]
"""
