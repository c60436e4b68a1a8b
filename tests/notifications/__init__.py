"""Tests of the door to shops."""
