"""Every row that comes in: files, datasets and generated tasks, read one way, and turned into problems and traces."""
