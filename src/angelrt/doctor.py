"""What about this server would lose jobs, slow them, or stop them: each finding with its remedy. Changes nothing."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any, Final

from .errors import RedisRefused, RedisUnavailable
from .job import View

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .store import Store

VERSION_MIN: Final = (7, 0)
SKEW_MAX_S: Final = 1.0
SLOW_MS: Final = 20.0
SAMPLES: Final = 20


class Finding(View):
    """One look at the server. `level` is ok, warning (works, but read the remedy) or error (jobs will be lost or will not run)."""

    check: str
    level: str
    found: str
    remedy: str = ""


async def examine(store: Store) -> list[Finding]:
    """Return the findings of every check, in order; a check that the server does not permit is a finding itself."""
    findings: list[Finding] = []
    for name, check in CHECKS:
        try:
            findings.append(await check(store))
        except RedisRefused as error:
            remedy = "permit the command to this user, or have an administrator run `doctor`"
            findings.append(Finding(check=name, level="warning", found=f"could not look: {error.__cause__ or error}", remedy=remedy))
        except RedisUnavailable as error:
            remedy = "see the other findings: a server that takes no writes answers little of what an application asks"
            findings.append(Finding(check=name, level="error", found=str(error), remedy=remedy))
    return findings


async def _version(store: Store) -> Finding:
    fields = await _info(store, "server")
    name = "Valkey" if "valkey_version" in fields else "Redis"
    version = fields.get("valkey_version") or fields["redis_version"]
    if tuple(map(int, version.split(".")[:2])) < VERSION_MIN:
        return Finding(check="version", level="error", found=f"{name} {version}", remedy="install Redis 7.0 or Valkey 7.2, or later")
    if "cluster" in (fields.get("redis_mode"), fields.get("server_mode")):
        remedy = "a namespace lives in one slot; connect to the node that holds it, since redirections are not followed yet"
        return Finding(check="version", level="warning", found=f"{name} {version} in cluster mode", remedy=remedy)
    return Finding(check="version", level="ok", found=f"{name} {version}")


async def _eviction(store: Store) -> Finding:
    policy, limit = (await _config(store, "maxmemory-policy")), int(await _config(store, "maxmemory"))
    if policy == "noeviction":
        return Finding(check="eviction", level="ok", found="noeviction: at its memory limit the server refuses new jobs and loses none")
    level, when = ("error", "at the limit") if limit else ("warning", "as soon as maxmemory is set")
    return Finding(
        check="eviction", level=level, found=f"{policy}: {when}, the server deletes jobs", remedy="CONFIG SET maxmemory-policy noeviction"
    )


async def _persistence(store: Store) -> Finding:
    if await _config(store, "appendonly") != "yes":
        loses = "what was sent since the last snapshot" if await _config(store, "save") else "everything: there are no snapshots either"
        remedy = f"CONFIG SET appendonly yes (and in the server's file): without it a restart loses {loses}"
        return Finding(check="persistence", level="error", found="no append-only file", remedy=remedy)
    written = await _info(store, "persistence")
    if written.get("aof_last_write_status", "ok") != "ok":
        remedy = "make room on its disk, and look into its log: until it can write, the server refuses new jobs"
        return Finding(check="persistence", level="error", found="the append-only file cannot be written", remedy=remedy)
    fsync = await _config(store, "appendfsync")
    if fsync == "no":
        remedy = "CONFIG SET appendfsync everysec: now a power loss may lose about half a minute"
        return Finding(check="persistence", level="warning", found="append-only file, never flushed by the server", remedy=remedy)
    loses = "nothing acknowledged" if fsync == "always" else "the last second or two"
    return Finding(
        check="persistence",
        level="ok",
        found=f"append-only file, fsync {fsync}: a power loss may lose {loses}, a crash of the server nothing",
    )


async def _replication(store: Store) -> Finding:
    fields = await _info(store, "replication")
    if fields["role"] != "master":
        remedy = f"connect to its primary, {fields.get('master_host')}:{fields.get('master_port')}, or to the sentinels: redis+sentinel://"
        return Finding(check="replication", level="error", found="a replica, which takes no jobs", remedy=remedy)
    replicas, wanted = int(fields["connected_slaves"]), int(await _config(store, "min-replicas-to-write"))
    good = int(fields.get("min_slaves_good_slaves", replicas))
    if good < wanted:
        remedy = "bring the replicas back, or CONFIG SET min-replicas-to-write: until then the server refuses new jobs, claims and outcomes"
        found = f"{good} of the {wanted} replicas that min-replicas-to-write asks for"
        return Finding(check="replication", level="error", found=found, remedy=remedy)
    if replicas == 0:
        found = 'no replica, and so no failover; durability="replicated" would refuse each send'
        return Finding(check="replication", level="ok", found=found)
    found = f'{replicas} replicas; a failover may lose the last moment, but for what durability="replicated" has sent'
    return Finding(check="replication", level="ok", found=found)


async def _permissions(store: Store) -> Finding:
    probe = f"doctor-{secrets.token_hex(4)}"
    try:
        await store.enqueue([])
        await store.watch(probe, [probe])
        await store.inspect([probe])
        await store.tick([])
        await store.command("PUBLISH", store.keys.inbox(probe), "")
    except RedisRefused as error:
        remedy = f"ACL SETUSER ... ~{store.keys.key('*')} &{store.keys.key('*')} +@all -@admin +info +client|list +config|get"
        return Finding(check="permissions", level="error", found=str(error.__cause__ or error), remedy=remedy)
    try:
        await store.command("CLIENT", "LIST", "ID", 1)
    except RedisRefused:
        found = "CLIENT LIST may not be used, so a worker that is killed is noticed only when its leases end"
        return Finding(check="permissions", level="warning", found=found, remedy="ACL SETUSER ... +client|list")
    return Finding(check="permissions", level="ok", found="scripts, keys and channels of this namespace may be used")


async def _clock(store: Store) -> Finding:
    seconds, micros = await store.command("TIME")
    skew_s = int(seconds) + int(micros) / 1e6 - time.time()
    found = f"the server's clock is {abs(skew_s):.3f} s {'ahead of' if skew_s >= 0 else 'behind'} this machine's"
    if abs(skew_s) > SKEW_MAX_S:
        remedy = "run NTP on both: leases keep the server's time, but `createdAt` and options(at=...) are of the sender"
        return Finding(check="clock", level="warning", found=found, remedy=remedy)
    return Finding(check="clock", level="ok", found=found)


async def _latency(store: Store) -> Finding:
    times_ms: list[float] = []
    for _ in range(SAMPLES):
        begun = time.perf_counter()
        await store.command("PING")
        times_ms.append((time.perf_counter() - begun) * 1000)
    median_ms = sorted(times_ms)[SAMPLES // 2]
    found = f"a round trip takes {median_ms:.2f} ms (median of {SAMPLES})"
    if median_ms > SLOW_MS:
        return Finding(check="latency", level="warning", found=found, remedy="run workers near the server: each pickup costs a round trip")
    return Finding(check="latency", level="ok", found=found)


async def _info(store: Store, section: str) -> dict[str, str]:
    lines = (await store.command("INFO", section)).decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


async def _config(store: Store, name: str) -> str:
    pair: list[Any] = await store.command("CONFIG", "GET", name)
    if not pair:
        message = f"CONFIG GET {name} answers nothing"
        raise RedisRefused(message)
    return str(pair[1].decode())


CHECKS: Final[tuple[tuple[str, Callable[[Store], Awaitable[Finding]]], ...]] = (
    ("version", _version),
    ("eviction", _eviction),
    ("persistence", _persistence),
    ("replication", _replication),
    ("permissions", _permissions),
    ("clock", _clock),
    ("latency", _latency),
)
