"""Chains that judges let through, or judging itself: steps are checked, errors located, judges weighed.

Begin with: temporal_consistency
"""
