//! The decoder against a model: values as bytes, cut anywhere, are the same values again.

#![expect(clippy::unwrap_used, reason = "a test fails there")]

use flexcache_remote::{Decoder, Value};
use proptest::collection::vec;
use proptest::prelude::*;

fn write(value: &Value, out: &mut Vec<u8>) {
    let mut line = |mark: char, rest: &[u8]| {
        out.push(u8::try_from(mark).unwrap_or(b'?'));
        out.extend_from_slice(rest);
        out.extend_from_slice(b"\r\n");
    };
    let number = |count: usize| count.to_string().into_bytes();
    match value {
        Value::Null => line('_', b""),
        Value::Bool(yes) => line('#', if *yes { b"t" } else { b"f" }),
        Value::Int(number) => line(':', number.to_string().as_bytes()),
        Value::Double(number) => line(',', number.to_string().as_bytes()),
        Value::BigNumber(digits) => line('(', digits),
        Value::Bytes(bytes) => {
            line('$', &number(bytes.len()));
            out.extend_from_slice(bytes);
            out.extend_from_slice(b"\r\n");
        }
        Value::Error(text) => line('-', text),
        Value::Array(parts) => line('*', &number(parts.len())),
        Value::Set(parts) => line('~', &number(parts.len())),
        Value::Map(parts) => line('%', &number(parts.len() / 2)),
        Value::Push(parts) => line('>', &number(parts.len())),
    }
    if let Value::Array(parts) | Value::Set(parts) | Value::Map(parts) | Value::Push(parts) = value {
        for part in parts {
            write(part, out);
        }
    }
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (-1e9..1e9).prop_map(Value::Double),
        "[0-9]{1,40}".prop_map(|digits| Value::BigNumber(digits.into_bytes())),
        vec(any::<u8>(), 0..80).prop_map(Value::Bytes),
        "[A-Z]{1,9} [a-z ]{0,30}".prop_map(|text| Value::Error(text.into_bytes())),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::Array),
            vec(inner.clone(), 0..6).prop_map(Value::Set),
            vec((inner.clone(), inner.clone()), 0..3).prop_map(|pairs| Value::Map(
                pairs.into_iter().flat_map(|(key, value)| [key, value]).collect()
            )),
            vec(inner, 0..6).prop_map(Value::Push),
        ]
    })
}

fn read(bytes: &[u8], piece: usize) -> Result<Vec<Value>, String> {
    let mut decoder = Decoder::new();
    let mut found = Vec::new();
    for piece in bytes.chunks(piece) {
        decoder.feed(piece)?;
        while let Some(value) = decoder.next()? {
            found.push(value);
        }
    }
    Ok(found)
}

proptest! {
    #[test]
    fn values_come_back_whatever_the_pieces(values in vec(values(), 0..6), piece in 1_usize..64) {
        let mut bytes = Vec::new();
        for value in &values {
            write(value, &mut bytes);
        }
        prop_assert_eq!(read(&bytes, piece).unwrap(), values.clone());
        prop_assert_eq!(read(&bytes, 1).unwrap(), values);
    }

    /// Of some values and then any bytes, as many values are read whatever the pieces.
    #[test]
    fn pieces_change_nothing(bytes in vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'*'), Just(b'$'), Just(b'1'), any::<u8>()], 0..200), piece in 1_usize..9) {
        let (whole, pieces) = (read(&bytes, bytes.len().max(1)), read(&bytes, piece));
        prop_assert_eq!(whole.is_ok(), pieces.is_ok());
        if let (Ok(whole), Ok(pieces)) = (whole, pieces) {
            prop_assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
        }
    }
}

#[test]
fn other_spellings() {
    let read = |bytes: &[u8]| read(bytes, 3).unwrap();
    assert_eq!(read(b"+OK\r\n"), [Value::Bytes(b"OK".to_vec())]);
    assert_eq!(read(b"$-1\r\n*-1\r\n"), [Value::Null, Value::Null]);
    assert_eq!(read(b"=6\r\ntxt:ab\r\n"), [Value::Bytes(b"ab".to_vec())]);
    assert_eq!(read(b"!3\r\nERR\r\n"), [Value::Error(b"ERR".to_vec())]);
    assert_eq!(read(b",inf\r\n,-inf\r\n"), [Value::Double(f64::INFINITY), Value::Double(f64::NEG_INFINITY)]);
    // An attribute is not a part.
    assert_eq!(
        read(b"*2\r\n|1\r\n+a\r\n:1\r\n:2\r\n|0\r\n:3\r\n"),
        [Value::Array(vec![Value::Int(2), Value::Int(3)])]
    );
}
