//! Judged by `corpus`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| corpus::judge("frames", bytes));
