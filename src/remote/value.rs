//! The values that a server sends.

/// A reply, a part of one, or a push.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A number.
    Int(i64),
    /// A number with a fraction.
    Double(f64),
    /// A number of any size, as digits.
    BigNumber(Vec<u8>),
    /// Text or bytes.
    Bytes(Vec<u8>),
    /// The server refused the command. The first word says why, for programs.
    Error(Vec<u8>),
    /// Several values.
    Array(Vec<Value>),
    /// Several different values.
    Set(Vec<Value>),
    /// Keys and values in turn.
    Map(Vec<Value>),
    /// What nobody asked for, such as `invalidate` and a list of keys.
    Push(Vec<Value>),
}
