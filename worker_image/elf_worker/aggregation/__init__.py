"""The round protocol as pure state machines: events in, effects out. No clock, no sockets, no torch.

`NorthPole`, `DataCenter` and `Household` are the three roles. The shells in `elf_worker.roles` feed them
from real connections; a test can feed them from a simulated network. `docs/protocol.md` explains them.
"""
