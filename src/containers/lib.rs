#![doc = include_str!("README.md")]
#![forbid(unsafe_code)]

pub mod container;
mod encoding;
pub mod error;
pub mod image;
pub mod kind;
pub mod list;
pub mod map;
pub mod memory;
mod nothing;
pub mod number;
pub mod operation;
pub mod pages;
pub mod sorted;
mod value;
mod weight;

pub use error::{Error, Result};
pub use number::Number;
