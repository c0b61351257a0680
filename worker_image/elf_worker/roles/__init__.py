"""The three roles as processes: a state machine of `elf_worker.aggregation` over real connections."""
