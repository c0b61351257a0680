"""What the operator imports to talk to the cluster, and whose token it shows."""

from __future__ import annotations

import subprocess
import sys

from elf_operator import logging_in


def test_the_operator_starts_without_the_official_client():
    code = "import sys, elf_operator.__main__; print('kubernetes' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_what_kopf_was_kept_from_can_be_imported_later():
    code = "import elf_operator.logging_in, kubernetes.aio.client; print('there')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "there"


def test_a_token_is_read_again_before_it_ends(tmp_path):
    now, file = [0.0], tmp_path / "token"
    file.write_text("first\n")
    header = logging_in._bearer(file, lambda: now[0])
    assert header() == {"Authorization": "Bearer first"}
    file.write_text("second\n")
    assert header() == {"Authorization": "Bearer first"}
    now[0] = logging_in.TOKEN_SECONDS
    assert header() == {"Authorization": "Bearer second"}
