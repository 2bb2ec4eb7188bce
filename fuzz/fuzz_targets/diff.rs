#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smartnat_sim::fuzz_targets::diff(data));
