"""Models behind HTTP: requests and responses, rate limits, retries and batches."""
