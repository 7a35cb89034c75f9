"""Who keeps volumes and reads boxes of them, each a class that runs in a process of its own (`serve.py`)."""

__all__: list[str] = []
