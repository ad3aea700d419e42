"""What is wrong with the data: one pass over every file, and findings that are pure functions of what it saw."""
