"""Spike-guided motion deblurring: one blurry picture and a spike stream in, the sharp sequence out."""
