"""The training dataset: from traces to tokens, checked, batched and collated."""
