"""Networks on diffraction: crystal orientations from EBSD patterns, phase regions from X-ray images."""
