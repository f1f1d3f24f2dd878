"""Train an encoder on findings, then a decoder on its features."""
