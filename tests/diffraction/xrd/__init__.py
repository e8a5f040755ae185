"""Tests of the XRD networks."""
