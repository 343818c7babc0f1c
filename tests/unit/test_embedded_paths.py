"""embedded://PATH: the directories in which no server can run are refused with the reason and the remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from angelrt.embedded import EmbeddedServer
from angelrt.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("below", ["", "deeper"])
def test_path_that_is_a_file_is_refused(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match=r"no directory is in the way .*file.*name another directory"):
        EmbeddedServer.join(tmp_path / "file" / below)


@pytest.mark.parametrize("path", ["", "/proc/self", "/proc/self/angelrt", "a\0b", "n" * 300])
def test_path_that_cannot_be_made_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match=r"needs the path of a directory|no server can run there .*name a directory on a local disk"):
        EmbeddedServer.join(path)
