"""Reports and pixels in, batches out."""
