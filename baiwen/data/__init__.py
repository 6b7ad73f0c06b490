"""From documents to batches: reading, filtering, splitting, shards, packing and loading."""
