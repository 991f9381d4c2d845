"""EULER (arXiv:2505.22131 v1): errors made up by a model of their own stand in the learner's prompt."""
