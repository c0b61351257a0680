"""The `elf` command and its twin, the kubectl plugin `kubectl elf`."""
