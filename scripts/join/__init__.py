"""Joins the segments of a video."""
