"""The report of a run: one HTML page and the same in Markdown, from what its folders hold."""
