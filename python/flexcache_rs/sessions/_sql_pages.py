"""Operations on bits and Bloom filters as statements of MySQL and MariaDB. Each page of 4 KiB has a row."""

# pyright: basic

from __future__ import annotations

from typing import TYPE_CHECKING

from flexcache_rs.sessions import _cells as cells
from flexcache_rs.sessions._sql_acts import PAGE_BITS, Acts
from flexcache_rs.sessions._sql_statements import CHUNK, inserted, marks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flexcache_rs.sessions._sql_statements import Head, Plan


class PageActs(Acts):
    """The plans of all acts on a container, including those on bits and Bloom filters."""

    def _pages(self, head: Head, bits: Iterable[int]) -> Plan:
        numbers = sorted({bit // (PAGE_BITS) for bit in bits})
        pages: dict[int, bytearray] = {}
        for start in range(0, len(numbers), CHUNK):
            some = numbers[start : start + CHUNK]
            rows = yield from self._rows(
                f"SELECT page, v FROM fx_page WHERE id = %s AND page IN ({marks(some)})", head.id, *some
            )
            pages |= {number: bytearray(text) for number, text in rows}
        return pages

    def _store(self, head: Head, pages: dict[int, bytearray]) -> None:
        rows = [(head.id, number, bytes(page)) for number, page in pages.items()]
        self._later += inserted("INSERT INTO fx_page (id, page, v)", rows, " ON DUPLICATE KEY UPDATE v = VALUES(v)")

    @staticmethod
    def _bit(pages: dict[int, bytearray], bit: int) -> bool:
        number, within = divmod(bit, PAGE_BITS)
        return number in pages and bool(pages[number][within // 8] & 1 << within % 8)

    @staticmethod
    def _put_bit(pages: dict[int, bytearray], bit: int, value: bool) -> None:
        number, within = divmod(bit, PAGE_BITS)
        page = pages.setdefault(number, bytearray(PAGE_BITS // 8))
        page[within // 8] = page[within // 8] & ~(1 << within % 8) | value << within % 8

    def _act_bits_get(self, head: Head, bit: int) -> Plan:
        return self._bit((yield from self._pages(head, (bit,))), bit)

    def _act_bits_set(self, head: Head, bit: int, value: bool) -> Plan:
        pages = yield from self._pages(head, (bit,))
        was = self._bit(pages, bit)
        self._put_bit(pages, bit, value)
        head.n += value - was
        self._store(head, pages)
        return was

    def _act_bits_toggle(self, head: Head, bit: int) -> Plan:
        pages = yield from self._pages(head, (bit,))
        value = not self._bit(pages, bit)
        self._put_bit(pages, bit, value)
        head.n += 1 if value else -1
        self._store(head, pages)
        return value

    @staticmethod
    def _check_shape(head: Head, bits: int, hashes: int) -> bytes:
        shape = f"{bits} {hashes}".encode()
        if head.value is not None and bytes(head.value) != shape:
            raise cells.wrong_shape()
        return shape

    def _act_bloom_add(self, head: Head, items: list[list[int]], bits: int, hashes: int) -> Plan:
        head.value = self._check_shape(head, bits, hashes)
        pages = yield from self._pages(head, (bit for item in items for bit in item))
        added = 0
        for item in items:
            if not all(self._bit(pages, bit) for bit in item):
                added += 1
                for bit in item:
                    self._put_bit(pages, bit, True)
        head.n += added
        self._store(head, pages)
        return added

    def _act_bloom_has(self, head: Head, items: list[list[int]], bits: int, hashes: int) -> Plan:
        self._check_shape(head, bits, hashes)
        pages = yield from self._pages(head, (bit for item in items for bit in item))
        return [all(self._bit(pages, bit) for bit in item) for item in items]
