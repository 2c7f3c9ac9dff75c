"""The loop of an extraction: pictures decoded ahead, batches in flight, shards written behind."""
