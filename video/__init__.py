"""Video files, a frame at a time, with PyAV."""
