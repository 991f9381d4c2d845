"""Models that judge: whose steps are checked, whose errors are located, and how far a judge can be trusted.

Begin with: temporal_consistency
"""
