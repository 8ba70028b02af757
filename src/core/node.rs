//! What the slab holds: an entry, in as little memory as a lookup needs to see. The hash of its key, and what only some
//! stores or policies need, are in columns beside it.

#[derive(Clone, Debug)]
pub(crate) struct Node<K, V> {
    pub(crate) key: K,
    pub(crate) value: V,
}
