"""The harness, `python benchmarks`: what is measured, of whom, and the pages that it writes."""

__all__: list[str] = []
