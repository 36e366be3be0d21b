"""The restoration: methods from spikes and a blurry picture to sharp frames; reading and writing of recordings."""
