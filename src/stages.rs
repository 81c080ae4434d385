#![doc = include_str!("STAGES.md")]
//!
//! Layer: values. There is no code here.
