"""From sharp video to blurry pictures and spikes: the simulated cameras."""
