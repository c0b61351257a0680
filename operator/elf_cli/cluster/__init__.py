"""A cluster as the command line needs it: requests, errors in sentences, what is followed."""
