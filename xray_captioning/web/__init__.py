"""A static page that captions images on its visitor's machine."""
