"""From disk to batch: spike streams, pictures, samples."""
