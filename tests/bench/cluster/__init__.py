"""What the benchmark of the operator is made of: the ground, who plays there, and each thing measured."""
