"""A folder of videos through a workflow of the API queue (`python scripts/batch --help`)."""
