"""The chat page: one static file, and the headers it is served with."""
