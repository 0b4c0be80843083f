"""Output heads and their losses: categorical and flow."""
