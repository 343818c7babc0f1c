"""embedded://PATH: the directories in which no server can run are refused with the reason and the remedy."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from angelrt.embedded import EmbeddedServer
from angelrt.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

AS_NOBODY = """
import os, sys
from angelrt.embedded import EmbeddedServer, binary
binary()  # loads what it needs while it may
if os.geteuid() == 0:
    os.seteuid(65534)
EmbeddedServer.join(sys.argv[1])
"""


@pytest.mark.parametrize("below", ["", "deeper"])
def test_path_that_is_a_file_is_refused(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match=r"no directory is in the way .*file.*name another directory"):
        EmbeddedServer.join(tmp_path / "file" / below)


@pytest.mark.parametrize("path", ["", "/proc/self/angelrt", "a\0b", "n" * 300])
def test_path_that_cannot_be_made_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match=r"needs the path of a directory|no server can run there .*name a directory on a local disk"):
        EmbeddedServer.join(path)


def test_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    tried = subprocess.run([sys.executable, "-c", AS_NOBODY, str(tmp_path)], check=False, capture_output=True, text=True)
    assert tried.returncode == 1
    reason = tried.stderr.splitlines()[-1]
    assert "ConfigError" in reason
    assert "Permission denied" in reason
    assert "name a directory on a local disk that this user may write" in reason
