"""Turnkey on the device: one booking from shutter to signed lead, and the stop that ends it."""

__version__ = "0.1.0"
