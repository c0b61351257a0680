"""What is trained: the `Task` base class for users' own models, and the shipped tasks."""

from elf_worker.tasks.base import Task, TaskError, load

__all__ = ["Task", "TaskError", "load"]
