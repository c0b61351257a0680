"""What is observed, as rows and trees: pure functions."""
