"""Measurements on frames of many taps at once; one module for each family of metrics."""
