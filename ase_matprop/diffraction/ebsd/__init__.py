"""OMNet: crystal orientations from electron backscatter patterns."""
