//! The values that a server sends.

/// A reply, a part of one, or a push.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Null.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Double(f64),
    /// An integer of any size, as digits.
    BigNumber(Vec<u8>),
    /// Text or bytes.
    Bytes(Vec<u8>),
    /// An error: the server refused the command. The first word is a code for programs.
    Error(Vec<u8>),
    /// An array.
    Array(Vec<Value>),
    /// A set: values that all differ.
    Set(Vec<Value>),
    /// A map: keys and values in turn.
    Map(Vec<Value>),
    /// A message without a request, such as `invalidate` and a list of keys.
    Push(Vec<Value>),
}
