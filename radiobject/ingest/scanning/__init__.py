"""Scanning: a folder as people have it -> a plan, one row for each future volume, to look at and edit."""
