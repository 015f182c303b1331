"""Wire formats, one file each: bytes <-> checked arrays. Input is checked here and nowhere else."""
