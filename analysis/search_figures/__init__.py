"""The figures of `python -m analysis.search`, one file each; all values are of validation."""
