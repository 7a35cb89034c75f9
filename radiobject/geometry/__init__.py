"""Boxes and affines: NumPy only, no input or output."""
