//! Numbers as text, the form in which they are stored, so that other readers of the store can read them.
//!
//! Each number has exactly one text: decimal for 64-bit integers, and the text of Python's `repr` for floats.
//! Other text, such as "007" or "1e5", is not a number.

use crate::error::{Error, Result};

/// A number that can be incremented.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// An integer.
    Int(i64),
    /// A float, which may be infinite or NaN.
    Float(f64),
}

/// The text of Python's `repr` for a float.
#[must_use]
pub fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    let text = format!("{value:?}");
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    format!("{digits}e{sign}{exponent:0>2}")
}

impl Number {
    /// The number whose text this is, or `None`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let first = *text.first()?;
        // The longest is "-2.2250738585072014e-308".
        if text.len() > 24 || !(first.is_ascii_digit() || matches!(first, b'-' | b'i' | b'n')) {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.bytes().all(|digit| digit.is_ascii_digit()) {
            let is_plain = digits == "0" && text == "0" || !digits.is_empty() && !digits.starts_with('0');
            return if is_plain { text.parse().ok().map(Self::Int) } else { None };
        }
        let value: f64 = text.parse().ok()?;
        (float_text(value) == text).then_some(Self::Float(value))
    }

    /// The text of the number.
    #[must_use]
    pub fn text(self) -> Vec<u8> {
        match self {
            Self::Int(value) => value.to_string(),
            Self::Float(value) => float_text(value),
        }
        .into_bytes()
    }

    /// The sum, which is a float if either is.
    ///
    /// # Errors
    ///
    /// [`Error::Overflow`], [`Error::NoSum`].
    pub fn plus(self, other: Self) -> Result<Self> {
        #[expect(clippy::cast_precision_loss, reason = "that is what adding a float means")]
        let float = |number| match number {
            Self::Int(value) => value as f64,
            Self::Float(value) => value,
        };
        match (self, other) {
            (Self::Int(left), Self::Int(right)) => {
                left.checked_add(right).map(Self::Int).ok_or(Error::Overflow)
            }
            _ => {
                let sum = float(self) + float(other);
                if sum.is_nan() { Err(Error::NoSum) } else { Ok(Self::Float(sum)) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_text() {
        for (text, number) in [
            ("0", Number::Int(0)),
            ("-12", Number::Int(-12)),
            ("9223372036854775807", Number::Int(i64::MAX)),
            ("1.5", Number::Float(1.5)),
            ("-0.0", Number::Float(-0.0)),
            ("1e+20", Number::Float(1e20)),
            ("1e-05", Number::Float(1e-5)),
            ("0.0001", Number::Float(1e-4)),
            ("1e+16", Number::Float(1e16)),
            ("1000000000000000.0", Number::Float(1e15)),
            ("-2.2250738585072014e-308", Number::Float(-2.225_073_858_507_201_4e-308)),
            ("inf", Number::Float(f64::INFINITY)),
        ] {
            assert_eq!(Number::parse(text.as_bytes()), Some(number));
            assert_eq!(number.text(), text.as_bytes());
        }
        for text in [
            "007",
            "1e5",
            "-0",
            "+1",
            "1.50",
            "1.",
            "None",
            "",
            "-",
            "9223372036854775808",
            "Infinity",
            "1_0",
        ] {
            assert_eq!(Number::parse(text.as_bytes()), None, "{text}");
        }
        assert!(matches!(Number::parse(b"nan"), Some(Number::Float(value)) if value.is_nan()));
    }

    #[test]
    fn sums_fit_or_fail() {
        assert_eq!(Number::Int(i64::MAX).plus(Number::Int(1)), Err(Error::Overflow));
        assert_eq!(Number::Float(f64::INFINITY).plus(Number::Float(-f64::INFINITY)), Err(Error::NoSum));
        assert_eq!(Number::Int(1).plus(Number::Float(0.5)), Ok(Number::Float(1.5)));
    }
}
