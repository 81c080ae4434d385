//! Where a learner who builds an own client finds each step here: a page, no code.
//!
//! Layer: values.
//!
#![doc = include_str!("STAGES.md")]
