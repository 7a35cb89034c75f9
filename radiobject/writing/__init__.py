"""One volume in memory -> its place and its row. Knows voxels and rows; nothing of sources or of handles."""
