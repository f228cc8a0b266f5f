"""Hash tags for Redis Cluster, where the slot of a name, and so its server, depends on its tag alone.

All processes of a site must take the same tag for a name, so the tags never change.
"""

from __future__ import annotations

from binascii import crc32

#: their slots lie in equal distances, so each server gets its share, however many there are
TAGS = (
    "mm u4 e0 e8 v1 qt ap ax tb kv dn df wo o6 gc xw cs d6 lc sw g3 pk on pz r0 zt ul m5 fm yy va iu "
    "si k0 ce cm pd op x9 x1 jf ur zj b3 ik q2 yg fs bk z2 rg ms af an qj i3 dx dp kh s1 xi xa he wq"
).split()


def index_of(name: bytes, count: int) -> int:
    """Return which of `count` partitions has `name`."""
    return crc32(name) % count
