"""Settings, files and progress: nothing here knows what a frame or a tensor is."""
