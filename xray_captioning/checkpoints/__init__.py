"""Arrays and words out of other people's files, executing nothing."""
