"""Metrics, losses and published numbers."""
