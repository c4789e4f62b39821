//! The spool's journals: no panic, no memory beyond the input, and what is read holds together.
//!
//! Input: any bytes, read as a journal and then as bodies of records (`length u16, body`) with right checksums.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| spool::fuzz::journal(data));
