"""Training: one data path, one loop and one artefact for every network on feature vectors."""
