"""A link on which a request or a reply gets lost when the test says so, and a subscriber that hears all news of a namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from redis import Redis

from angelrt.link import Link, LinkLost
from angelrt.scripts import SCRIPTS
from tests.scripts.faults import FaultyLink

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.properties.steps import Fate


PONG_WITHIN_S = 10.0


class LossyLink(Link):
    """A real link whose next script meets its `fate` once: the request never arrives, or it is carried out and the reply never comes."""

    fate: Fate = ""
    on_loss: Callable[[], None] = staticmethod(lambda: None)
    on_new_wait: Callable[[], None] = staticmethod(lambda: None)

    async def call(self, *commands: Sequence[Any]) -> list[Any]:
        """Send commands, or not, and return their replies, or raise LinkLost."""
        if all(command[0] != "EVALSHA" for command in commands):
            return await super().call(*commands)
        fate, self.fate = self.fate, ""
        replies = [] if fate == "request lost" else await super().call(*commands)
        if declines(replies):
            self.fate = fate
            if len(commands) > 1:
                self.on_new_wait()
        elif fate:
            self.on_loss()
            raise LinkLost(fate)
        return replies


class BreakingLink(LossyLink, FaultyLink):
    """A lossy link on which a script may also break off before its n-th command, and counts as lost."""

    async def call(self, *commands: Sequence[Any]) -> list[Any]:
        """Send commands, the script among them perhaps broken, and return their replies, or raise LinkLost."""
        sha = next((command[1] for command in commands if command[0] == "EVALSHA"), None)
        if sha and isinstance(self.fate, int):
            at, self.fate = self.fate, ""
            self.fail(_SCRIPTS[sha], at)
            replies = await super().call(*commands)
            if declines(replies):
                self.fate = at
            return replies
        return await super().call(*commands)


_SCRIPTS = {script.sha: script for script in SCRIPTS.values()}


def declines(replies: list[Any]) -> bool:
    """Whether a short way has declined: nothing was done, and the long way is what meets the fate."""
    return bool(replies) and replies[-1] is None


class Listener:
    """Hears on every channel of a namespace."""

    def __init__(self, url: str, tag: str) -> None:
        """Subscribe; `tag` is what all channels begin with."""
        self._tag = tag
        self._redis = Redis.from_url(url, protocol=2)
        self._pubsub = self._redis.pubsub()  # type: ignore[no-untyped-call]
        self._pubsub.psubscribe(f"{tag}*")
        assert self._next()["type"] == "psubscribe"

    def news(self) -> list[tuple[str, str]]:
        """Return (channel, job id) of everything that was announced since the last call."""
        self._pubsub.ping()
        heard: list[tuple[str, str]] = []
        while (message := self._next())["type"] != "pong":
            heard.append((message["channel"].decode().removeprefix(self._tag), message["data"].decode()))
        return heard

    def close(self) -> None:
        """End the subscription."""
        self._pubsub.close()
        self._redis.close()

    def _next(self) -> dict[str, Any]:
        message = self._pubsub.get_message(timeout=PONG_WITHIN_S)
        assert message is not None, f"no answer to PING within {PONG_WITHIN_S:g} s"
        return cast("dict[str, Any]", message)
