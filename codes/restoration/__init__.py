"""One's own recordings: from a picture and a spike file to sharp pictures."""
