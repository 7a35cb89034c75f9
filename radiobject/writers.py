"""Writers: `radiobject.writers`, the place where they are looked for."""

from radiobject.model.writers import RadiObjectWriter, VolumeCollectionWriter

__all__ = ["RadiObjectWriter", "VolumeCollectionWriter"]
