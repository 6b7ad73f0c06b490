"""Synthetic documents: a model writes them from documents and topics, and most of what can be wrong
with them is looked for (report, section 3.1).

prompts    what the model is asked: ours, or a TOML file of the user's own
ours       the texts of ours, English and Chinese
drawing    which seeds a prompt is filled with
drafts     a reply on its way to a document, and the verdict that ends it
forms      what is read out of a reply, and what makes it none
proof      worked problems that samples agree on, exercises whose tests their program passes
sieve      what a reward model thinks, near duplicates, contamination
"""
