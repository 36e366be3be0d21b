"""Motion-compensated reconstruction from spikes; nothing is trained."""
