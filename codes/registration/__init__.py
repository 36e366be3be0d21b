"""Where and when the picture and the spikes of two cameras show the same scene."""
