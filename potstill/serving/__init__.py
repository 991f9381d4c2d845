"""`potstill serve`: a checkpoint behind OpenAI's protocol, with vLLM's additions (docs/serving.md)."""
