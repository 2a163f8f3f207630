"""The cache with a limit in bytes."""

from app.server.byte_cache import ByteCache, drop_idle_entries


def test_cache_above_its_limit_drops_the_least_recently_used_value():
    cache: ByteCache[str] = ByteCache(max_bytes=10, idle_s=60)
    cache.put("a", "A", 4)
    cache.put("b", "B", 4)
    assert cache.get("a") == "A"
    cache.put("c", "C", 4)

    assert (cache.get("a"), cache.get("b"), cache.get("c")) == ("A", None, "C")
    assert cache.n_bytes == 8


def test_cache_replaces_a_value_and_does_not_store_one_above_its_limit():
    cache: ByteCache[str] = ByteCache(max_bytes=10, idle_s=60)
    cache.put("a", "A", 4)
    cache.put("a", "B", 6)
    cache.put("large", "L", 11)

    assert (cache.get("a"), cache.get("large")) == ("B", None)
    assert cache.n_bytes == 6


def test_drop_idle_entries_drops_values_that_were_not_used():
    idle: ByteCache[str] = ByteCache(max_bytes=10, idle_s=-1)
    fresh: ByteCache[str] = ByteCache(max_bytes=10, idle_s=60)
    for cache in (idle, fresh):
        cache.put("a", "A", 4)

    assert drop_idle_entries() >= 1
    assert (idle.get("a"), fresh.get("a")) == (None, "A")
    assert idle.n_bytes == 0
