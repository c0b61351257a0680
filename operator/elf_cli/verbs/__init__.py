"""The verbs of `elf`, one a file: what people type, and what they are told."""
