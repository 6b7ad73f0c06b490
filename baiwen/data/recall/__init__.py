"""Recall: documents of a kind, mathematics or code, found among all others from a few examples.

corpus     the documents as parts on disk, and where each comes from
learning   the classifier: examples against others, and every document's score
choice     which documents: a sample, the best scores, all of a source

    corpus = Corpus.open(folder)
    made = learn("math", examples, others, Training())
    top = best(scores, bar(odds(made, spies), share=0.9), most=1000)
    more = widened(corpus.source, top, share=0.5, least=5)      # what else its sources hold

The loop of Qwen2.5-Math and DeepSeekMath (Shao et al., 2024, 2.1): a classifier is taught on seeds
against a random sample, the best of the corpus is taken, sources of which a large share was taken
give all they have, what was found joins the seeds, and again.
"""
