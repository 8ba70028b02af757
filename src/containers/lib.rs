#![doc = include_str!("README.md")]
#![forbid(unsafe_code)]

pub mod container;
pub mod error;
pub mod image;
pub mod list;
pub mod map;
pub mod memory;
pub mod number;
pub mod operation;
pub mod pages;
pub mod sorted;
mod weight;

pub use error::{Error, Result};
pub use number::Number;
