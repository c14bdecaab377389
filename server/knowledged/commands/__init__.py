"""The commands of the command line, one a file, each with `add_arguments` and `run`."""
