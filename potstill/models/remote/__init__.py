"""Remote models: requests and responses over HTTP, rate limits, retries and batches."""
