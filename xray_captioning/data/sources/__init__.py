"""One reader a source, one table of studies for all."""
