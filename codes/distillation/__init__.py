"""What the student LDN is fed and what it learns from."""
