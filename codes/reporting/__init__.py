"""Tables, figures and pages made of finished runs, and the cost of networks."""
