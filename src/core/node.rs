//! What the slab holds: an entry. What only some stores or policies need is in columns beside it.

#[derive(Clone, Debug)]
pub(crate) struct Node<K, V> {
    pub(crate) key: K,
    pub(crate) value: V,
    pub(crate) hash: u64,
}
