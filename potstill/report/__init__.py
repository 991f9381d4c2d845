"""What a person looks at: the self-contained report, and model text made safe to show."""
