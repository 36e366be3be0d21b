"""Reports of finished runs (tables, figures, curves, HTML), speed of the machine, and cost of networks."""
