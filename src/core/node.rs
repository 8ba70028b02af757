//! A node: the key and the value of an entry, as the slab holds them. Nodes are small, so that a lookup reads
//! little memory. The hash of the key, and data that only some stores or policies need, are in columns.

#[derive(Clone, Debug)]
pub(crate) struct Node<K, V> {
    pub(crate) key: K,
    pub(crate) value: V,
}
