"""Pure drawing: values in, pictures out. Nothing here reads a data set or writes a file."""
