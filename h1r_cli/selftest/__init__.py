"""Numerics that a user can prove on their own machine and model: `h1r selftest`."""
