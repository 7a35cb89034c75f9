"""What a user holds in hand: RadiObject, VolumeCollection, Volume, their tables and indexes."""
