"""Reading studies: people rate two systems' texts without knowing whose is whose."""
