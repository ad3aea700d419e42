"""The whole paths: from what was asked to a verdict. This is the Python API."""
