"""Programs as answers, run against tests in a sandbox."""
