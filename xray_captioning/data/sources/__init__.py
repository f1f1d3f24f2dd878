"""A reader for each source, and one table of studies for all."""
