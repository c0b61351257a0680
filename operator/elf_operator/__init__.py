"""The Elf Training Operator: decides which pods an ElfTrainingJob needs, and keeps them alive."""
