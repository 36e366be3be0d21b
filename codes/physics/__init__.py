"""The closed-form model: intensity from spikes, and spike-guided deblurring without a network."""
