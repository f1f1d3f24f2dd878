"""Encoder, decoder and tokenizer together: captions, and how sure they are."""
