"""`python -m elf_cli`: the same as `elf`."""

from elf_cli.main import main

if __name__ == "__main__":
    main()
