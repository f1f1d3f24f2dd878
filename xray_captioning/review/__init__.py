"""Reading studies: people rate two systems' texts without knowing which system wrote them."""
