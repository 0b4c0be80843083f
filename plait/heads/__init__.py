"""Losses and samplers: categorical and flow."""
