"""How commands and files are found in a page."""

from __future__ import annotations

import pytest

from documents import Block, blocks, commands

PAGE = """# Title

```console
$ helm install elf chart \\
    --set a=b \\
    --wait    # it waits
NAME: elf
$ kubectl get pods
No resources found.
```

## Files

```python
# mine/lines.py
x = 1
```

### Deeper

```dockerfile
# mine/Dockerfile
FROM x
```

## Others

```python
# A comment.
```

````text
```
````
"""


def found() -> list[Block]:
    return list(blocks(PAGE, "page.md"))


def test_commands_are_joined_and_know_their_line() -> None:
    [first, second] = commands(found()[0])
    assert first.text == "helm install elf chart --set a=b --wait    # it waits"
    assert first.words == ["helm", "install", "elf", "chart", "--set", "a=b", "--wait"]
    assert (first.line, second.line) == (4, 8)
    assert str(second) == "page.md:8: kubectl get pods"


def test_only_console_blocks_have_commands() -> None:
    [block] = blocks("```text\n$ rm -rf /\n```\n")
    assert list(commands(block)) == []


def test_files_are_told_by_their_first_line() -> None:
    assert [block.file for block in found()] == [None, "mine/lines.py", "mine/Dockerfile", None, None]


def test_headings_above_a_block() -> None:
    assert [block.headings for block in found()] == [
        ("Title",),
        ("Title", "Files"),
        ("Title", "Files", "Deeper"),
        ("Title", "Others"),
        ("Title", "Others"),
    ]


def test_a_fence_ends_with_its_own_length() -> None:
    assert found()[-1].text == "```\n"


def test_a_block_without_end_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"page\.md:3: the block does not end"):
        list(blocks("a\n\n```console\n$ ls\n", "page.md"))
